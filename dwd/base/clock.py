"""Protocols for time and chance, so that cores take both as arguments and the simulator can own them."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for durations, one for stamps people read. Neither is ever used for the other's job."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def unix_ms(self) -> int:
        """Milliseconds since 1970 UTC, as the machine believes; may jump."""
        ...


class Rng(Protocol):
    """A source of randomness: seeded in simulation, the operating system's in the daemon."""

    def uniform(self, low: float, high: float) -> float: ...

    def below(self, bound: int) -> int:
        """An integer in [0, bound)."""
        ...

    def bits(self, count: int) -> int:
        """A non-negative integer of at most `count` bits."""
        ...

    def token_bytes(self, count: int) -> bytes: ...
