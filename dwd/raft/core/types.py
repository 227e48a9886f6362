"""Values the core speaks in: entries, configurations, and what a replica must remember.

Source: Ongaro & Ousterhout 2014, figure 2; Ongaro's thesis, chapter 4 (configurations are log entries).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

from dwd.base.ids import LogIndex, NodeId, ReplicaId, Stamp, Term

ProposalId = NewType("ProposalId", int)
"""Chosen by the shell, unique on this replica since boot; names a proposal until its fate is known."""
ReadId = NewType("ReadId", int)
"""Chosen by the shell; carries the boot id so that a read of an earlier life is never answered."""
WriteId = NewType("WriteId", int)
"""Numbers the `Effects` of one node since boot, from 1."""

NO_REPLICA = ReplicaId(0)


class EntryKind(IntEnum):
    NOOP = 0
    COMMAND = 1
    CONFIGURATION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One slot of the log. `stamp` is set by the leader: max(its clock, last stamp in the log + 1)."""

    index: LogIndex
    term: Term
    kind: EntryKind
    stamp: Stamp
    payload: bytes


class MemberRole(IntEnum):
    """What a member may do."""

    VOTER = 0
    LEARNER = 1
    WITNESS = 2
    """Votes and keeps the log, has no state machine: serves nothing, leads only to hand over (`witness.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A replica on a node. The replica id is new each time a replica starts from nothing (raft.md section 1)."""

    node: NodeId
    replica: ReplicaId
    role: MemberRole
    priority: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Who is a member, in order of replica id. Takes effect when appended, as the thesis (4.1) has it.

    While joint (thesis 4.3) it is two configurations at once: `voters()` are those of the new one, `outgoing` names
    the voters of the old one, and every decision needs a majority of both. `leaving` are members until it ends.
    """

    members: tuple[Member, ...]
    outgoing: tuple[ReplicaId, ...] = ()
    """The voters of the old configuration while joint, in order; some of them may vote in the new one too."""
    leaving: tuple[ReplicaId, ...] = ()
    """Those of `outgoing` that are no members of the new configuration. They keep the role they had."""

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    def voters(self) -> tuple[Member, ...]:
        """Who votes, witnesses included; while joint, in the new configuration."""
        return tuple(m for m in self.members if m.role is not MemberRole.LEARNER and m.replica not in self.leaving)

    def find(self, replica: ReplicaId) -> Member | None:
        return next((m for m in self.members if m.replica == replica), None)

    def on_node(self, node: NodeId) -> Member | None:
        """The node's member; while joint rather the one that stays."""
        found = [m for m in self.members if m.node == node]
        return next((m for m in found if m.replica not in self.leaving), found[0] if found else None)


class ChangeKind(IntEnum):
    ADD_LEARNER = 0
    PROMOTE = 1
    REMOVE = 2
    REPLACE_LOST = 3
    """Remove the replica that `member.node` had and add `member` as a learner: its log or vote is gone."""
    DEMOTE = 4
    """Make a voter a learner."""
    ADD_WITNESS = 5
    """Add a voter without a state machine. A replica is a witness all its life or never."""
    SET_PRIORITY = 6
    """Give the replica `member.replica` the priority `member.priority`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationChange:
    """One step: voters before and after differ in one at most (thesis 4.1)."""

    kind: ChangeKind
    member: Member


@dataclass(frozen=True, slots=True, kw_only=True)
class JointChange:
    """Any number of steps at once, in order. If more than one voter changes the group goes through a joint
    configuration, which it leaves by itself (thesis 4.3).
    """

    changes: tuple[ConfigurationChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HardState:
    """What must be durable before anything of this term leaves. `commit` may lag: it only speeds up restart."""

    term: Term
    vote: ReplicaId
    commit: LogIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotMeta:
    """The state up to and including `index`."""

    index: LogIndex
    term: Term
    stamp: Stamp
    configuration: Configuration


class Role(IntEnum):
    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


ZERO_TERM = Term(0)
ZERO_INDEX = LogIndex(0)
ZERO_WRITE = WriteId(0)
EMPTY_CONFIGURATION = Configuration(members=())
EMPTY_SNAPSHOT = SnapshotMeta(index=ZERO_INDEX, term=ZERO_TERM, stamp=Stamp(0), configuration=EMPTY_CONFIGURATION)
EMPTY_HARD_STATE = HardState(term=ZERO_TERM, vote=NO_REPLICA, commit=ZERO_INDEX)
