"""Whether this node's clock can be believed, and what time its leaders put into the log.

Every voter of this node's groups is asked for its clock about once a second (`dwd.raft.clocks`). An answer is kept as
the difference between that clock and this node's *monotonic* clock, so a jump of the own wall clock is seen at the
very next look, without asking anybody.

* Off (`dwd.raft.core.clocks`): all groups of this node abstain, they neither campaign nor lead, until the clock has
  been right for a while. While less than a quorum of clocks is known nothing is blocked.
* Jumped: the wall clock no longer agrees with its own past. Until the others have been asked anew, stamps go on from
  the time before: one stamp of a day ahead would move all later stamps of its group, and shards would refuse new
  blocks as too old for as long. Nobody to ask for a while: the new time is taken, as on the only node of a cluster.

Hazard: a monotonic clock that stands still while the machine sleeps makes the wall clock look as if it had jumped;
answers that came after it woke set that right.

Source: raft.md section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from dwd.base.clock import Clock
from dwd.base.ids import NodeId
from dwd.raft.core.clocks import OFF_MS, Opinion, judge
from dwd.raft.telemetry import CLOCK_OFF, CLOCK_OFFSET_SECONDS

_log = structlog.get_logger("dwd.raft")

SAMPLE_SECONDS = 10.0
"""An answer older than this tells nothing any more."""
ERROR_MS_MAX = 200.0
"""Half the round trip: slower answers tell too little."""
RIGHT_SECONDS = 3.0
"""A clock that was off must have been right for so long."""
HANDOVER_SECONDS = 1.0
"""So long a leader whose clock is wrong may take to hand over before it steps down."""
JUMP_SECONDS = 5.0
"""So long the others are waited for before a jump of the clock is believed without them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStatus:
    """`offset_seconds` from the median, positive when this node is ahead; None while no quorum of clocks is known."""

    offset_seconds: float | None
    off: bool
    known: int
    """Clocks that are known, this node's own among them."""
    voters: int


@dataclass(frozen=True, slots=True)
class _Sample:
    ahead_ms: float
    """The other's wall clock less this node's monotonic one."""
    error_ms: float
    asked_at: float
    """When the question was sent; seconds, monotonic."""


class ClockGuard:
    """`unix_ms` is for stamps. All on one event loop; metrics are read from any thread."""

    def __init__(self, clock: Clock) -> None:
        self.off = False
        self._off_since = 0.0
        self._clock = clock
        self._on_doubt: Callable[[], None] = lambda: None
        self._peers: frozenset[NodeId] = frozenset()
        self._samples: dict[NodeId, _Sample] = {}
        self._opinion: Opinion | None = None
        self._known = 1
        self._believed_ms = self._ahead_ms()
        self._jumped_at: float | None = None
        self._right_since: float | None = None
        self._unwatch = (
            CLOCK_OFFSET_SECONDS.watch(lambda: self.status().offset_seconds or 0.0),
            CLOCK_OFF.watch(lambda: float(self.off)),
        )

    def close(self) -> None:
        for unwatch in self._unwatch:
            unwatch()

    def on_doubt(self, callback: Callable[[], None]) -> None:
        """Call when the others should be asked at once."""
        self._on_doubt = callback

    def bars(self, now: float, *, leads: bool) -> bool:
        """Whether a replica must not stand or lead. One that leads is given time to hand over."""
        return self.off and (not leads or now >= self._off_since + HANDOVER_SECONDS)

    def unix_ms(self) -> int:
        """The wall clock as far as it can be believed."""
        ahead = self._look()
        if self.off and self._opinion is not None:
            ahead = self._opinion.median_ms
        elif self._jumped_at is not None:
            ahead = self._believed_ms
        return int(ahead + self._clock.monotonic() * 1000)

    def heard(self, node: NodeId, unix_ms: int, *, asked_at: float, answered_at: float) -> None:
        """A node's clock said `unix_ms` at some moment between the two (seconds, monotonic)."""
        error = (answered_at - asked_at) * 500
        if error <= ERROR_MS_MAX and node in self._peers:
            middle = (answered_at + asked_at) * 500
            self._samples[node] = _Sample(ahead_ms=unix_ms - middle, error_ms=error, asked_at=asked_at)

    def judge(self, peers: Iterable[NodeId]) -> None:
        """Look again. `peers`: the nodes, without this one, that vote in any group of this node."""
        now, ahead = self._clock.monotonic(), self._look()
        self._peers = frozenset(peers)
        since = now - SAMPLE_SECONDS if self._jumped_at is None else max(self._jumped_at, now - SAMPLE_SECONDS)
        self._samples = {
            node: sample for node, sample in self._samples.items() if node in self._peers and sample.asked_at >= since
        }
        fresh = tuple(self._samples.values())
        voters = 1 + len(self._peers)
        error = max((s.error_ms for s in fresh), default=0.0)
        opinion = judge(ahead, [s.ahead_ms for s in fresh], voters=voters, error_ms=error)
        if self._jumped_at is not None and self._peers and opinion is None and now < self._jumped_at + JUMP_SECONDS:
            return
        self._known, self._opinion = 1 + len(fresh), opinion
        self._decide(opinion, now)
        if not self.off:
            self._believed_ms, self._jumped_at = ahead, None

    def status(self) -> ClockStatus:
        return ClockStatus(
            offset_seconds=None if self._opinion is None else self._opinion.distance_ms / 1000,
            off=self.off,
            known=self._known,
            voters=1 + len(self._peers),
        )

    def _decide(self, opinion: Opinion | None, now: float) -> None:
        if opinion is None:
            self._set_off(off=False)
        elif not self.off:
            self._set_off(off=opinion.off)
        elif not opinion.right:
            self._right_since = None
        else:
            self._right_since = now if self._right_since is None else self._right_since
            if now - self._right_since >= RIGHT_SECONDS:
                self._set_off(off=False)

    def _set_off(self, *, off: bool) -> None:
        if off == self.off:
            return
        self.off, self._right_since, self._off_since = off, None, self._clock.monotonic()
        if off:
            seconds = self._opinion.distance_ms / 1000 if self._opinion is not None else 0.0
            _log.warning(
                "this node's clock is wrong: it neither campaigns nor leads", offset_seconds=seconds, known=self._known
            )
        else:
            _log.info("this node's clock no longer keeps it from leading", known=self._known)

    def _ahead_ms(self) -> float:
        return self._clock.unix_ms() - self._clock.monotonic() * 1000

    def _look(self) -> float:
        """The own wall clock less the monotonic one; notices a jump, follows what is slower than one."""
        ahead = self._ahead_ms()
        if self._jumped_at is None:
            if not self._peers or abs(ahead - self._believed_ms) <= OFF_MS:
                self._believed_ms = ahead
            else:
                self._jumped_at = self._clock.monotonic()
                _log.warning("this node's clock jumped", seconds=(ahead - self._believed_ms) / 1000)
                self._on_doubt()
        return ahead
