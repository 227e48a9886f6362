"""Reads waiting for an index: on the leader for a round of heartbeats, elsewhere for its answer. Values only."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dwd.base.ids import LogIndex, ReplicaId
from dwd.raft.core.types import ZERO_INDEX, ReadId


@dataclass(frozen=True, slots=True)
class WaitingRead:
    """`source` is the replica that asked; a leader's own reads carry its own id."""

    source: ReplicaId
    read: ReadId
    index_min: LogIndex
    """Answer at least this index: the last one, for a replica that lost its tail."""


@dataclass(slots=True)
class LeaderReads:
    """One round is under way at a time; who arrives meanwhile joins the next (thesis 6.4)."""

    round: int = 1
    """The newest round begun; heartbeats carry it. 0 in a reply acknowledges none."""
    joined_round: int = 0
    """The first round begun after those in `joined` arrived."""
    sent: deque[tuple[int, float]] = field(default_factory=deque)
    """With leases: rounds, and when they were sent, on the leader's monotonic clock."""
    round_index: LogIndex = ZERO_INDEX
    """The commit index when it began."""
    joined: list[WaitingRead] = field(default_factory=list)
    """Answered once a majority has acknowledged `joined_round`."""
    waiting: list[WaitingRead] = field(default_factory=list)
    round_ticks: int = 0
    """How long the oldest of them has waited."""


@dataclass(slots=True)
class PeerReads:
    """Local reads of a follower or learner: one request to the leader carries all that gathered before it."""

    request: ReadId | None = None
    joined: list[ReadId] = field(default_factory=list)
    waiting: list[ReadId] = field(default_factory=list)
    request_ticks: int = 0
