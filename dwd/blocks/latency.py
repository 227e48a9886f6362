"""How each device has been answering: what is slow for it, and when not to ask it at all.

Latencies are kept per device as a short ring of recent ones. A device that fails FAILURES_MAX times in a row is left
alone for OPEN_SECONDS_MIN, twice as long after each further failure, up to OPEN_SECONDS_MAX.
Source: hedging after a high percentile: Dean & Barroso 2013, "The Tail at Scale".
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dwd.base.clock import Clock
from dwd.base.ids import DeviceId

SAMPLES = 64
FAILURES_MAX = 5
OPEN_SECONDS_MIN = 1.0
OPEN_SECONDS_MAX = 30.0
OPEN_DOUBLINGS_MAX = 5
WRITE_SLOW_FACTOR = 4.0
WRITE_SLOW_SECONDS_MIN = 0.25
WRITE_SLOW_SECONDS_MAX = 2.0
READ_HEDGE_SECONDS_MIN = 0.02
READ_HEDGE_SECONDS_MAX = 1.0


@dataclass(slots=True)
class _Record:
    reads: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    writes: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    failures: int = 0
    open_until: float = 0.0
    inflight: int = 0


class Latencies:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[DeviceId, _Record] = {}

    def began(self, device: DeviceId) -> float:
        """A request is under way; pass the result to `answered` or `failed`, or call `gave_up`."""
        self._record(device).inflight += 1
        return self._clock.monotonic()

    def answered(self, device: DeviceId, began: float, *, write: bool) -> None:
        record = self._record(device)
        record.inflight -= 1
        record.failures = 0
        record.open_until = 0.0
        (record.writes if write else record.reads).append(self._clock.monotonic() - began)

    def failed(self, device: DeviceId) -> None:
        record = self._record(device)
        record.inflight -= 1
        record.failures += 1
        if record.failures >= FAILURES_MAX:
            doublings = min(record.failures - FAILURES_MAX, OPEN_DOUBLINGS_MAX)
            record.open_until = self._clock.monotonic() + min(OPEN_SECONDS_MAX, OPEN_SECONDS_MIN * 2**doublings)

    def gave_up(self, device: DeviceId) -> None:
        """Nothing was learned: the caller went away or took another device's answer."""
        self._record(device).inflight -= 1

    def usable(self, device: DeviceId) -> bool:
        """False while its circuit is open."""
        record = self._records.get(device)
        return record is None or record.open_until <= self._clock.monotonic()

    def inflight(self, device: DeviceId) -> int:
        record = self._records.get(device)
        return 0 if record is None else record.inflight

    def write_slow_seconds(self, device: DeviceId) -> float:
        """After this a write is called slow: its p99 times four, within bounds."""
        p99 = _quantile(self._record(device).writes, 0.99, WRITE_SLOW_SECONDS_MAX / WRITE_SLOW_FACTOR)
        return min(WRITE_SLOW_SECONDS_MAX, max(WRITE_SLOW_SECONDS_MIN, p99 * WRITE_SLOW_FACTOR))

    def read_hedge_seconds(self, device: DeviceId) -> float:
        """After this another device is asked as well: its p95, within bounds."""
        p95 = _quantile(self._record(device).reads, 0.95, READ_HEDGE_SECONDS_MAX / 4)
        return min(READ_HEDGE_SECONDS_MAX, max(READ_HEDGE_SECONDS_MIN, p95))

    def _record(self, device: DeviceId) -> _Record:
        record = self._records.get(device)
        if record is None:
            record = self._records[device] = _Record()
        return record


def _quantile(samples: deque[float], share: float, unknown: float) -> float:
    if len(samples) < SAMPLES // 8:
        return unknown
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
