"""How late the event loop runs its callbacks: the first thing to look at when a node is slow for no visible reason.

Heartbeats, elections and every request share one loop; whatever blocks it (a long computation, a file read on the
loop) delays all of them, and shows here.
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from dwd.base.clock import Clock
from dwd.observability import metrics

PROBE_SECONDS = 0.25
RECENT_PROBES = 20
"""What `LoopLag.seconds` looks back on: five seconds."""
BLOCKED_SECONDS = 1.0
"""A delay worth a log line: the order of an election timeout."""

_LAG = metrics.histogram("dwd.runtime.loop.lag", "Delay of the event loop in running a due callback", "s")
_log = structlog.get_logger("dwd.runtime")


class LoopLag:
    """Measures the loop that `run` runs on."""

    def __init__(self, clock: Clock, *, probe_seconds: float = PROBE_SECONDS) -> None:
        self._clock = clock
        self._probe_seconds = probe_seconds
        self._recent: deque[float] = deque(maxlen=RECENT_PROBES)

    def seconds(self) -> float:
        """The longest delay of late; 0.0 before the first probe."""
        return max(self._recent, default=0.0)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self._clock.monotonic() + self._probe_seconds
            await asyncio.sleep(self._probe_seconds)
            lag = max(self._clock.monotonic() - due, 0.0)
            self._recent.append(lag)
            _LAG.record(lag)
            if lag >= BLOCKED_SECONDS:
                _log.warning("event loop was blocked", lag_seconds=round(lag, 3))
