"""A clock whose wall side somebody else may set: for tests of what a wrong clock does."""

from __future__ import annotations

from dwd.base.clock import Clock


class SkewedClock:
    """Durations are the inner clock's; `offset_ms` is added to what people read. Set it at any time."""

    def __init__(self, inner: Clock) -> None:
        self._inner = inner
        self.offset_ms = 0

    def monotonic(self) -> float:
        return self._inner.monotonic()

    def unix_ms(self) -> int:
        return self._inner.unix_ms() + self.offset_ms
