"""What a host tells people and reconcilers about its groups."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.errors import DwError
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term
from dwd.raft.core.types import ZERO_TERM, Configuration, Member, Role
from dwd.raft.ports import StateHash


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotProgress:
    """A transfer of a snapshot, as seen by the end that reports it. Bytes; `bytes_total` 0 until the sender's copy is
    there. `bytes_done` counts what the receiver has, `bytes_reused` the part of it that it had already.
    """

    source: NodeId
    bytes_done: int
    bytes_total: int
    bytes_reused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionReport:
    """What a compaction on demand did. `first` is the first entry the log still has, `applied` where the state machine
    stood; entries and bytes are those the log let go of (none: it was as short as its followers allow).
    """

    group: GroupId
    first: LogIndex
    applied: LogIndex
    entries_removed: int
    bytes_removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStatus:
    """A member as seen from here; `match` and `state` are known to the leader alone (0 and "" elsewhere)."""

    member: Member
    match: LogIndex
    state: str
    """ "probe", "replicate" or "snapshot"."""
    caught_up: bool
    """A learner that may be promoted now (known to the leader alone)."""
    last_contact_seconds: float
    """Since any message from the member's node; infinity if none came since this host started. 0 for itself."""
    sending: SnapshotProgress | None = None
    """A snapshot that this replica is sending to the member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """One group on this node. `failed` says why the replica stopped serving; the other groups go on."""

    group: GroupId
    replica: ReplicaId
    role: Role
    leader: ReplicaId
    leader_node: NodeId
    """0 when not known."""
    term: Term
    commit: LogIndex
    applied: LogIndex
    last: LogIndex
    first: LogIndex
    log_bytes: int
    configuration: Configuration
    members: tuple[MemberStatus, ...]
    snapshot: SnapshotProgress | None
    tail_doubt: bool
    """The log lost its tail: the replica acknowledges nothing until a leader has confirmed its log."""
    failed: DwError | None
    quarantined: str | None = None
    """Why the state here is not trusted: the replica votes, but neither leads nor serves until it is re-seeded."""
    state_hash: StateHash | None = None
    """At the newest checkpoint applied here."""
    alarm: str | None = None
    """What an operator must know and the cluster cannot mend by itself, as far as this replica's node found out."""
    last_term: Term = ZERO_TERM
    """Of the entry at `last`."""
    witness: bool = False
    """It votes and keeps the log, and has no state."""
    hibernating: bool = False
    """It rests, as all its members do: nobody uses it, and nothing is said (`dwd.raft.hibernation`)."""
    version: int = 0
    """The active version of the group's commands; 0 on a witness, or when not known."""
