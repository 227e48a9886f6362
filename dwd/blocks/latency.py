"""How each device has been answering: what is slow for it, which are slow beside the others, whom not to ask at all.

Latencies are kept per device as a short ring of recent ones and a smoothed value. A device is *sluggish* when it takes
several times as long as the others do: reads then take other fragments from the start, and one small probe a second
finds out when it is well again. A device that fails is left to its circuit breaker (`dwd.blocks.core.breaker`).

Invariant: an answer that was not waited for counts with the time it was waited for, so that a device that always loses
to its hedge is known to be slow.
Source: hedging after a high percentile: Dean & Barroso 2013, "The Tail at Scale".
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dwd.base.balance import Load
from dwd.base.clock import Clock
from dwd.base.ids import DeviceId, hex_id
from dwd.blocks.core.breaker import Breaker, BreakerState
from dwd.observability import metrics

SAMPLES = 64
SAMPLES_MIN = SAMPLES // 8
"""Below this nothing is known."""
LOOK_EVERY = 8
"""Samples between two looks at the percentiles of a ring."""
SMOOTHING = 0.3
"""Weight of a new sample."""
WRITE_SLOW_FACTOR = 4.0
WRITE_SLOW_SECONDS_MIN = 0.25
WRITE_SLOW_SECONDS_MAX = 2.0
READ_HEDGE_SECONDS_MIN = 0.02
READ_HEDGE_SECONDS_MAX = 1.0
READ_HEDGE_OTHERS = 2.0
"""Nor is a device waited for longer than so many times the others' usual p95."""
SLUGGISH_FACTOR = 4.0
"""Times as slow as the middle one of all devices."""
SLUGGISH_SECONDS_MIN = 0.015
PROBE_SECONDS = 1.0
TYPICAL_SECONDS = 0.25
"""How long a look at all devices is believed."""

_OPENED = metrics.counter("dwd.blocks.breaker.opened", "Times a device's circuit breaker opened", "{time}")
_BREAKERS = metrics.gauge(
    "dwd.blocks.breaker.state", "Circuit breaker of a device, as this node sees it: 0 closed, 1 half-open, 2 open", "1"
)
_SLUGGISH = metrics.gauge("dwd.blocks.device.sluggish", "1: this node reads around a device that answers slowly", "1")
_LEVEL = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


@dataclass(slots=True)
class _Ring:
    """Recent times of one kind; the percentile is looked at now and then only."""

    share: float
    samples: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    percentile: float | None = None
    unseen: int = 0

    def add(self, seconds: float) -> None:
        self.samples.append(seconds)
        self.unseen += 1
        if self.unseen >= LOOK_EVERY and len(self.samples) >= SAMPLES_MIN:
            ordered = sorted(self.samples)
            self.percentile = ordered[min(len(ordered) - 1, int(self.share * len(ordered)))]
            self.unseen = 0


@dataclass(slots=True)
class _Record:
    reads: _Ring = field(default_factory=lambda: _Ring(0.95))
    writes: _Ring = field(default_factory=lambda: _Ring(0.99))
    breaker: Breaker = field(default_factory=Breaker)
    opened_unix_ms: int = 0
    inflight: int = 0
    seconds: float = 0.0
    """Smoothed time of reads, 0 unknown."""
    probe_due: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A device as this node finds it."""

    breaker: BreakerState
    sluggish: bool
    inflight: int
    read_seconds: float


class Latencies:
    """Owned by one event loop. `show` puts it into the metrics."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[DeviceId, _Record] = {}
        self._typical: tuple[float, float] = (0.0, 0.0)
        """The middle device's smoothed time and p95."""
        self._looked = float("-inf")

    def began(self, device: DeviceId) -> float:
        """A request is under way; pass the result to one of the methods that end it, once."""
        record, now = self._record(device), self._clock.monotonic()
        record.inflight += 1
        record.breaker.began(now)
        return now

    def answered(self, device: DeviceId, began: float, *, write: bool) -> None:
        record = self._record(device)
        record.inflight -= 1
        record.breaker.succeeded()
        took = self._clock.monotonic() - began
        if write:
            record.writes.add(took)
        else:
            self._learn(record, took)

    def failed(self, device: DeviceId) -> None:
        record = self._record(device)
        record.inflight -= 1
        if record.breaker.failed(self._clock.monotonic()):
            record.opened_unix_ms = self._clock.unix_ms()
            _OPENED.add(1)

    def gave_up(self, device: DeviceId) -> None:
        """Nothing was learned: the caller went away."""
        record = self._record(device)
        record.inflight -= 1
        record.breaker.abandoned(self._clock.monotonic())

    def overtaken(self, device: DeviceId, began: float) -> None:
        """A read that others answered meanwhile: it would have taken at least this long."""
        record, now = self._record(device), self._clock.monotonic()
        record.inflight -= 1
        record.breaker.abandoned(now)
        if now - began > max(record.seconds, READ_HEDGE_SECONDS_MIN):
            self._learn(record, now - began)

    def usable(self, device: DeviceId, *, came_back_ms: int = 0) -> bool:
        """False while its circuit is open. A device that came back since (Unix milliseconds) starts afresh."""
        record = self._records.get(device)
        if record is None or record.breaker.state is BreakerState.CLOSED:
            return True
        if came_back_ms > record.opened_unix_ms:
            record.breaker.succeeded()
        return record.breaker.allows(self._clock.monotonic())

    def sluggish(self, device: DeviceId) -> bool:
        """Whether it answers several times as slowly as the others do."""
        record = self._records.get(device)
        if record is None or record.seconds < SLUGGISH_SECONDS_MIN:
            return False
        return record.seconds > SLUGGISH_FACTOR * self._look()[0]

    def probe(self, device: DeviceId) -> bool:
        """Whether it is time to ask a sluggish device something small; says so once for each time."""
        record, now = self._record(device), self._clock.monotonic()
        if now < record.probe_due:
            return False
        record.probe_due = now + PROBE_SECONDS
        return True

    def inflight(self, device: DeviceId) -> int:
        record = self._records.get(device)
        return 0 if record is None else record.inflight

    def load(self, device: DeviceId, weight: float) -> Load:
        record = self._records.get(device)
        if record is None:
            return Load(weight=weight)
        return Load(weight=weight, inflight=record.inflight, seconds=record.seconds)

    def standing(self, device: DeviceId) -> Standing:
        record = self._records.get(device) or _Record()
        return Standing(
            breaker=record.breaker.state,
            sluggish=self.sluggish(device),
            inflight=record.inflight,
            read_seconds=record.seconds,
        )

    def write_slow_seconds(self, device: DeviceId) -> float:
        """After this a write is called slow: its p99 times four, within bounds."""
        p99 = self._record(device).writes.percentile
        if p99 is None:
            return WRITE_SLOW_SECONDS_MAX
        return min(WRITE_SLOW_SECONDS_MAX, max(WRITE_SLOW_SECONDS_MIN, p99 * WRITE_SLOW_FACTOR))

    def read_hedge_seconds(self, device: DeviceId) -> float:
        """After this another device is asked as well: its p95, or what is long beside the others, within bounds."""
        p95, usual = self._record(device).reads.percentile, self._look()[1]
        after = READ_HEDGE_SECONDS_MAX / 4 if p95 is None else p95
        if usual:
            after = min(after, READ_HEDGE_OTHERS * usual)
        return min(READ_HEDGE_SECONDS_MAX, max(READ_HEDGE_SECONDS_MIN, after))

    def show(self) -> Callable[[], None]:
        """Into the metrics; call what is returned to take it out again."""
        unwatch = (_BREAKERS.watch(self._levels), _SLUGGISH.watch(self._sluggish_levels))

        def hide() -> None:
            for one in unwatch:
                one()

        return hide

    def _learn(self, record: _Record, took: float) -> None:
        record.reads.add(took)
        record.seconds = took if not record.seconds else record.seconds + SMOOTHING * (took - record.seconds)

    def _look(self) -> tuple[float, float]:
        now = self._clock.monotonic()
        if now - self._looked >= TYPICAL_SECONDS:
            self._looked = now
            known = [r for r in self._records.values() if r.seconds]
            percentiles = [r.reads.percentile for r in known if r.reads.percentile is not None]
            self._typical = (
                statistics.median(r.seconds for r in known) if known else 0.0,
                statistics.median(percentiles) if percentiles else 0.0,
            )
        return self._typical

    def _levels(self) -> Iterator[tuple[float, dict[str, str | int]]]:
        for device, record in list(self._records.items()):
            yield _LEVEL[record.breaker.state], {"device": hex_id(device)}

    def _sluggish_levels(self) -> Iterator[tuple[float, dict[str, str | int]]]:
        for device in list(self._records):
            yield float(self.sluggish(device)), {"device": hex_id(device)}

    def _record(self, device: DeviceId) -> _Record:
        record = self._records.get(device)
        if record is None:
            record = self._records[device] = _Record()
        return record
