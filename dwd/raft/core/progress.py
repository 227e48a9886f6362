"""What a leader believes of one peer, and how much it may send it.

Invariants: match < next. PROBE has at most one Append out, REPLICATE as many as the bounds allow, SNAPSHOT none.
Source: Ongaro & Ousterhout 2014, figure 2 (nextIndex, matchIndex); thesis 10.2.1 (pipelining).
"""

from __future__ import annotations

from collections import deque

from dwd.base.ids import LogIndex
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.status import ProgressState

STALLED_ROUNDS_MAX = 2
"""Ticks in which a peer answered a heartbeat without any progress of Appends in flight, after which one of them counts
as lost. Rounds of reads bring many answers a tick, and say nothing about time."""


class Progress:
    __slots__ = (
        "acked_round", "commit_sent", "fetching", "inflight", "inflight_bytes", "match", "next", "paused",
        "promised_round", "recent_active", "reluctant", "stall_due", "stalled_rounds", "state",
    )  # fmt: skip

    def __init__(self, following: LogIndex) -> None:
        self.match = LogIndex(0)
        self.next: LogIndex = following
        self.state = ProgressState.PROBE
        self.paused = False
        """A probe is out."""
        self.fetching = False
        """Entries for it are being read from the log store."""
        self.inflight: deque[tuple[LogIndex, int]] = deque()
        self.inflight_bytes = 0
        self.stalled_rounds = 0
        self.stall_due = False
        """A tick has passed since an answer was counted as a stalled round."""
        self.commit_sent = LogIndex(0)
        self.acked_round = 0
        self.promised_round = 0
        """The last round whose answer promised to vote for nobody else."""
        self.recent_active = True
        self.reluctant = False
        """It said that it should not lead for now."""

    def may_send(self, options: NodeOptions) -> bool:
        if self.fetching or self.state is ProgressState.SNAPSHOT:
            return False
        if self.state is ProgressState.PROBE:
            return not self.paused
        return len(self.inflight) < options.inflight_messages_max and self.inflight_bytes < options.inflight_bytes_max

    def sent(self, last: LogIndex, size: int) -> None:
        """An Append with entries up to `last` went out."""
        if self.state is ProgressState.PROBE:
            self.paused = True
            return
        self.next = LogIndex(last + 1)
        self.inflight.append((last, size))
        self.inflight_bytes += size

    def acknowledged(self, match: LogIndex) -> bool:
        """The peer has everything up to `match`. Whether that is news."""
        while self.inflight and self.inflight[0][0] <= match:
            self.inflight_bytes -= self.inflight.popleft()[1]
        self.stalled_rounds = 0
        if match <= self.match:
            return False
        self.match = match
        self.next = LogIndex(max(self.next, match + 1))
        return True

    def probe(self, following: int) -> None:
        """Go back to one Append at a time, starting at `following` or after what is known to match."""
        self._enter(ProgressState.PROBE)
        self.next = LogIndex(max(following, self.match + 1))

    def replicate(self) -> None:
        self._enter(ProgressState.REPLICATE)
        self.next = LogIndex(self.match + 1)

    def snapshot(self) -> None:
        self._enter(ProgressState.SNAPSHOT)

    def forget(self) -> None:
        """The peer lost its log's tail: nothing it ever acknowledged counts any more."""
        self.match = LogIndex(0)
        self._enter(ProgressState.PROBE)

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused = False
        self.fetching = False
        self.inflight.clear()
        self.inflight_bytes = 0
        self.stalled_rounds = 0
