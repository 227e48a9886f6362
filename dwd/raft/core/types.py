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
    """What a member may do. Witness voters (log and vote, no state machine) take the next number."""

    VOTER = 0
    LEARNER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A replica on a node. The replica id is new each time a replica starts from nothing (raft.md section 1)."""

    node: NodeId
    replica: ReplicaId
    role: MemberRole
    priority: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Who is a member, in order of replica id. Takes effect when appended, as the thesis (4.1) has it."""

    members: tuple[Member, ...]

    def voters(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members if m.role is MemberRole.VOTER)

    def find(self, replica: ReplicaId) -> Member | None:
        return next((m for m in self.members if m.replica == replica), None)

    def on_node(self, node: NodeId) -> Member | None:
        return next((m for m in self.members if m.node == node), None)


class ChangeKind(IntEnum):
    ADD_LEARNER = 0
    PROMOTE = 1
    REMOVE = 2
    REPLACE_LOST = 3
    """Remove the replica that `member.node` had and add `member` as a learner: its log or vote is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationChange:
    """One step at a time (thesis 4.1); joint changes get a kind of their own."""

    kind: ChangeKind
    member: Member


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
