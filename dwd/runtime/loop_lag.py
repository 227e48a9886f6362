"""How late the event loop runs its callbacks: the first thing to look at when a node is slow for no visible reason.

Heartbeats, elections and every request share one loop; whatever blocks it (a long computation, a file read on the
loop) delays all of them, and shows here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from dwd.base.clock import Clock
from dwd.observability import metrics

PROBE_SECONDS = 0.25
BLOCKED_SECONDS = 1.0
"""A delay worth a log line: the order of an election timeout."""

_LAG = metrics.histogram("dwd.runtime.loop.lag", "Delay of the event loop in running a due callback", "s")
_log = structlog.get_logger("dwd.runtime")


async def watch_loop_lag(
    clock: Clock, *, probe_seconds: float = PROBE_SECONDS, observe: Callable[[float], None] | None = None
) -> None:
    """Measure until cancelled; `observe` gets every delay too, in seconds."""
    while True:
        due = clock.monotonic() + probe_seconds
        await asyncio.sleep(probe_seconds)
        lag = max(clock.monotonic() - due, 0.0)
        _LAG.record(lag)
        if observe is not None:
            observe(lag)
        if lag >= BLOCKED_SECONDS:
            _log.warning("event loop was blocked", lag_seconds=round(lag, 3))
