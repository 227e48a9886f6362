"""Gathers what the rules want done until the shell takes it, and remembers which writes are under way.

A vote and a candidacy are written twice, in two batches of the log, before they are spoken of: the log's recovery may
have to cut its last batch without knowing whether it had been synced (raft.md section 2), and what can be cut there
must never be a promise somebody counts on. Acknowledged entries can be fetched again; a vote cannot (`doubt.py`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dwd.base.ids import LogIndex, ReplicaId, Term
from dwd.raft.core.effects import Accepted, Fetch, ReadReady, ReadRefused, Refused, SoftState
from dwd.raft.core.messages import Message, SnapshotOffer
from dwd.raft.core.plausible import Refusal
from dwd.raft.core.types import NO_REPLICA, ZERO_INDEX, ZERO_TERM, ZERO_WRITE, SnapshotMeta, WriteId

DROPPED_MAX = 64


@dataclass(slots=True, kw_only=True)
class PendingWrite:
    """One write the shell has taken and not reported. `last` falls when the log is cut below it meanwhile."""

    write: WriteId
    term: Term
    last: LogIndex
    held: list[Message]


@dataclass(slots=True)
class Outbox:
    hard_state_changed: bool = False
    now: list[Message] = field(default_factory=list)
    durable: list[Message] = field(default_factory=list)
    held: list[Message] = field(default_factory=list)
    """Votes and candidacies waiting for the first of their two writes."""
    accepted: list[Accepted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    reads: list[ReadReady] = field(default_factory=list)
    reads_refused: list[ReadRefused] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)
    snapshot: SnapshotMeta | None = None
    offer: SnapshotOffer | None = None
    tail_confirmed: bool = False
    dropped: dict[tuple[Refusal, ReplicaId], int] = field(default_factory=dict)
    soft_state: SoftState | None = None
    """The one last published."""
    writes: deque[PendingWrite] = field(default_factory=deque)
    last_write: WriteId = ZERO_WRITE
    durable_term: Term = ZERO_TERM
    written_commit: LogIndex = ZERO_INDEX

    def is_empty(self) -> bool:
        return not (
            self.now or self.durable or self.held or self.hard_state_changed or self.accepted or self.refused
            or self.reads or self.reads_refused or self.fetches or self.snapshot or self.offer or self.tail_confirmed
            or self.dropped
        )  # fmt: skip

    def drop(self, refusal: Refusal, source: ReplicaId) -> None:
        """A message was not looked at. Senders past DROPPED_MAX share a line."""
        key = (refusal, source)
        if key not in self.dropped and len(self.dropped) >= DROPPED_MAX:
            key = (refusal, NO_REPLICA)
        self.dropped[key] = self.dropped.get(key, 0) + 1

    def clip_writes(self, last: int) -> None:
        """The log was cut after `last`: writes under way prove nothing above it."""
        for pending in self.writes:
            pending.last = LogIndex(min(pending.last, last))
