"""The real clock and the operating system's randomness: the only place in the daemon that touches either.

Hazard: `unix_ms` may jump either way when somebody sets the clock. Nothing may derive order or safety from it alone.
"""

from __future__ import annotations

import secrets
import time


class SystemClock:
    """`dwd.base.clock.Clock` over the machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 - this is where the ban points to

    def unix_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SystemRng:
    """`dwd.base.clock.Rng` over the kernel's generator: fit for ids and tokens, safe across threads and forks."""

    def __init__(self) -> None:
        self._random = secrets.SystemRandom()

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def bits(self, count: int) -> int:
        return self._random.getrandbits(count)

    def token_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)
