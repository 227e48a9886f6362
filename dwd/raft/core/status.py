"""What a replica tells people and the membership reconciler about itself. Values only; nothing here decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.raft.core.types import Configuration, Role


class ProgressState(Enum):
    """How the leader feeds one peer."""

    PROBE = "probe"
    """Its match is not known: one Append at a time until an answer."""
    REPLICATE = "replicate"
    """Its match is known: Appends are pipelined."""
    SNAPSHOT = "snapshot"
    """The log no longer reaches back to it: nothing is sent until it has the snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    replica: ReplicaId
    state: ProgressState
    match: LogIndex
    next: LogIndex
    recent_active: bool
    """Answered within the present check-quorum period."""
    caught_up: bool
    """A learner that may be promoted now."""
    reluctant: bool
    """It said that it would rather not lead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    group: GroupId
    replica: ReplicaId
    role: Role
    leader: ReplicaId
    term: Term
    vote: ReplicaId
    commit: LogIndex
    applied: LogIndex
    persisted: LogIndex
    first: LogIndex
    """The first index the log still has."""
    last: LogIndex
    last_term: Term
    """Of the entry at `last`."""
    configuration: Configuration
    configuration_index: LogIndex
    configuration_pending: bool
    """The configuration in force is not committed yet: no other change is taken."""
    tail_doubt: bool
    """The log lost its tail: the votes of this replica count only beside those of all voters, and it acknowledges
    nothing until a leader has confirmed its log. A group where this lasts has lost its quorum: see `doubt.py`."""
    uncommitted_bytes: int
    witness: bool
    held: LogIndex
    """Of a witness: up to here its log may be compacted."""
    transferring: ReplicaId
    """To whom leadership is being handed, or 0."""
    peers: tuple[PeerStatus, ...]
    """Of a leader; empty otherwise."""
