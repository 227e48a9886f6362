"""The circuit breaker of one device: after failures in a row nobody asks it for a while, then one request tries.

    CLOSED --5 failures in a row--> OPEN --30 s--> one request is let through: HALF_OPEN
    HALF_OPEN --it succeeded--> CLOSED          HALF_OPEN --it failed--> OPEN again
    HALF_OPEN --its caller went away--> OPEN, due: the next request is the one

An open breaker is advice: where nothing else is left the device is asked all the same, and an answer closes it.
Source: Nygard, "Release It!", 2007.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

FAILURES_MAX = 5
OPEN_SECONDS = 30.0


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Breaker:
    """`now` is monotonic seconds."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    """In a row."""
    due: float = 0.0
    """OPEN: when one request may try."""

    def allows(self, now: float) -> bool:
        match self.state:
            case BreakerState.CLOSED:
                return True
            case BreakerState.OPEN:
                return now >= self.due
            case BreakerState.HALF_OPEN:
                return False
        assert_never(self.state)

    def began(self, now: float) -> None:
        """A request goes out; where one was due, it is the one that tries."""
        if self.state is BreakerState.OPEN and now >= self.due:
            self.state = BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        self.state, self.failures = BreakerState.CLOSED, 0

    def failed(self, now: float) -> bool:
        """True: it opened just now."""
        self.failures += 1
        if self.failures < FAILURES_MAX:
            return False
        opened = self.state is not BreakerState.OPEN
        self.state = BreakerState.OPEN
        if opened:
            self.due = now + OPEN_SECONDS
        return opened

    def abandoned(self, now: float) -> None:
        """A request ended without telling anything about the device."""
        if self.state is BreakerState.HALF_OPEN:
            self.state, self.due = BreakerState.OPEN, now
