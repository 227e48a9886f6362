"""How fast background work goes: a token bucket for bytes, and a pacer that yields in proportion to the work done.

Pure arithmetic over times that the caller passes in; whoever asks also does the waiting.
"""

from __future__ import annotations

from dwd.base.clock import Clock
from dwd.base.errors import InvariantViolation

PACE_FULL = 0.0
"""No pauses."""
PACE_DEFAULT = 2.0
"""Two seconds of rest for each second of work: background work takes a third of one core at most."""
PACE_MAX = 1_000.0
PAUSE_SECONDS_MAX = 30.0
"""The longest single pause a pacer asks for, however long the work took."""
PACER_WEIGHT = 0.2
"""Share of the newest measurement in the pacer's average."""


class TokenBucket:
    """Admits `rate` units a second on average and `burst` at once.

    A request larger than `burst` is admitted when the bucket is full and leaves it in debt, which later requests wait
    off: so large requests keep the average too, and none waits for ever.
    """

    def __init__(self, clock: Clock, *, rate: float, burst: float) -> None:
        if rate <= 0 or burst <= 0:
            raise InvariantViolation("a token bucket's rate and burst are positive", rate=rate, burst=burst)
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._filled_at = clock.monotonic()

    def take(self, units: float) -> float:
        """Seconds the caller must wait before trying again; 0.0 means the units are taken."""
        self._fill()
        needed = min(units, self._burst)
        if self._level < needed:
            return (needed - self._level) / self._rate
        self._level -= units
        return 0.0

    def set_rate(self, *, rate: float, burst: float) -> None:
        """New figures from now on; what has collected stays, up to the new burst."""
        if rate <= 0 or burst <= 0:
            raise InvariantViolation("a token bucket's rate and burst are positive", rate=rate, burst=burst)
        self._fill()
        self._rate = rate
        self._burst = burst
        self._level = min(self._level, burst)

    def _fill(self) -> None:
        now = self._clock.monotonic()
        self._level = min(self._burst, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now


class Pacer:
    """Rest in proportion to work: after work that took t seconds (averaged), pause `pace` * t.

    When the machine is busy each piece of work takes longer, so the pauses grow by themselves and foreground requests
    get the machine. Source: the idea of Garage's tranquilizer.
    """

    def __init__(self, pace: float = PACE_DEFAULT) -> None:
        self._pace = 0.0
        self._average: float | None = None
        self.set_pace(pace)

    @property
    def pace(self) -> float:
        return self._pace

    def set_pace(self, pace: float) -> None:
        """0 means no pauses; n means n seconds of rest for each second of work."""
        if not PACE_FULL <= pace <= PACE_MAX:
            raise InvariantViolation("pace is out of range", pace=pace)
        self._pace = pace

    def pause_after(self, work_seconds: float) -> float:
        """Seconds to rest after a piece of work that took `work_seconds`."""
        worked = max(work_seconds, 0.0)
        before = self._average if self._average is not None else worked
        self._average = before + PACER_WEIGHT * (worked - before)
        return min(self._average * self._pace, PAUSE_SECONDS_MAX)
