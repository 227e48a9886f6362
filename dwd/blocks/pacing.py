"""How fast repair may use each device of this node: a token bucket a device, and feedback from what clients wait.

Repair is held up here, where the disk is, so that the repairs of all shards' leaders share one budget and every client
counts, whichever node serves it. On its own ("auto") a device's rate moves by additive increase and multiplicative
decrease: while the 99th percentile of clients' requests stays below twice what it is without repair, and the event loop
is on time, it grows; else it shrinks. When clients come after a rest, repair slows down at once and what they wait is
measured anew. Without clients it goes at the ceiling.

Blocks that are one loss from unreadable have a bucket of their own that feedback cannot slow below a quarter of the
ceiling: losing data is worse than waiting for it.

Source: the control law is TCP's (Jacobson 1988); a rate in bytes, and a floor, as in Ceph's and MinIO's healers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from dwd.base.clock import Clock
from dwd.base.ids import DeviceId
from dwd.base.limits import BLOCK_BYTES
from dwd.base.units import MIB
from dwd.runtime.pacing import TokenBucket

CEILING_BYTES = 256 * MIB
FLOOR_BYTES = 2 * MIB
"""A second: what repair may always do, or it would never end beside busy clients."""
LOOK_SECONDS = 0.25
"""How often the rate is thought over."""
WINDOW_SECONDS = 2.0
"""What clients' requests are looked back on; without any in it they are idle."""
SAMPLES_MAX = 512
SAMPLES_MIN = 8
"""Fewer say nothing about a percentile."""
SLOWER_FACTOR = 2.0
"""How much longer clients may wait because of repair."""
SLOW_SECONDS_MIN = 0.01
"""Waits below this are never called slow."""
LAG_SECONDS = 0.1
"""An event loop so late is busy with clients or with too much repair."""
CALM_LOOKS = 4
"""Looks at the floor, after clients came, in which their calm is measured."""
CALM_WEIGHT = 0.3
GROWTH = 0.04
"""Of the ceiling, a look."""
SHRINK = 0.6
URGENT_SHARE = 0.25
URGENT_FACTOR = 4.0
"""How much faster exposed blocks go where an operator set the rate."""


class DevicePacer:
    def __init__(self, clock: Clock, pacing: Pacing) -> None:
        self._clock, self._pacing = clock, pacing
        self._waits: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)
        self._rate = float(pacing.ceiling)
        self._calm: float | None = None
        self._calm_left = 0
        self._looked_at = clock.monotonic()
        self._bucket = TokenBucket(clock, rate=self._rate, burst=BLOCK_BYTES)
        self._urgent = TokenBucket(clock, rate=self._rate, burst=BLOCK_BYTES)

    @property
    def rate(self) -> float:
        """Bytes a second now."""
        return self._rate

    def client_waited(self, seconds: float) -> None:
        """A client's request took so long here."""
        now = self._clock.monotonic()
        if not self._waits or now - self._waits[-1][0] > WINDOW_SECONDS:
            self._calm_left = CALM_LOOKS  # they come after a rest: step aside, and see what they wait without repair
        self._waits.append((now, seconds))

    async def admit(self, size: int, *, urgent: bool) -> None:
        """Returns when repair may move so many bytes."""
        bucket = self._urgent if urgent else self._bucket
        self._look()
        while pause := bucket.take(size):
            await asyncio.sleep(min(pause, LOOK_SECONDS))
            self._look()

    def _look(self) -> None:
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK_SECONDS and self._pacing.fixed is None:
            return
        self._looked_at = now
        fixed = self._pacing.fixed
        if fixed is not None:
            self._rate = fixed
            self._set(urgent=URGENT_FACTOR * fixed)
            return
        ceiling = self._pacing.ceiling
        waits = sorted(seconds for at, seconds in self._waits if now - at <= WINDOW_SECONDS)
        if not waits:
            self._rate = ceiling
        elif self._calm_left > 0:
            self._calm_left -= 1
            self._rate = FLOOR_BYTES
            self._note_calm(waits)
        elif self._pacing.lag() > LAG_SECONDS or (len(waits) >= SAMPLES_MIN and _p99(waits) > self._slow()):
            self._rate = max(FLOOR_BYTES, self._rate * SHRINK)
        else:
            self._rate = min(ceiling, self._rate + ceiling * GROWTH)
        self._set(urgent=max(self._rate, ceiling * URGENT_SHARE))

    def _set(self, *, urgent: float) -> None:
        self._bucket.set_rate(rate=self._rate, burst=BLOCK_BYTES)
        self._urgent.set_rate(rate=urgent, burst=BLOCK_BYTES)

    def _note_calm(self, waits: list[float]) -> None:
        if len(waits) >= SAMPLES_MIN:
            seen = _p99(waits)
            self._calm = seen if self._calm is None else self._calm + CALM_WEIGHT * (seen - self._calm)

    def _slow(self) -> float:
        calm = self._calm if self._calm is not None else SLOW_SECONDS_MIN
        return max(SLOW_SECONDS_MIN, SLOWER_FACTOR * calm)


class Pacing:
    """Of all devices of a node. `fixed`: bytes a second and device that an operator asked for, None: by feedback.
    `lag`: how late the event loop is, in seconds.
    """

    def __init__(self, clock: Clock, *, ceiling: float = CEILING_BYTES, lag: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self.ceiling = max(float(ceiling), float(FLOOR_BYTES))
        self.fixed: float | None = None
        self.lag = lag
        self._pacers: dict[DeviceId, DevicePacer] = {}

    def of(self, device: DeviceId) -> DevicePacer:
        pacer = self._pacers.get(device)
        if pacer is None:
            pacer = self._pacers[device] = DevicePacer(self._clock, self)
        return pacer


def _p99(ordered: list[float]) -> float:
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
