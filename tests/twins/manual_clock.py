"""A clock that stands still until a test moves it."""

from __future__ import annotations

EPOCH_MS = 1_700_000_000_000


class ManualClock:
    """`dwd.base.clock.Clock`. Its two times can be moved apart, as when somebody sets a machine's clock."""

    def __init__(self) -> None:
        self._monotonic = 1_000.0
        self._unix_ms = EPOCH_MS

    def monotonic(self) -> float:
        return self._monotonic

    def unix_ms(self) -> int:
        return self._unix_ms

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        self._unix_ms += int(seconds * 1000)

    def set_unix_ms(self, unix_ms: int) -> None:
        self._unix_ms = unix_ms
