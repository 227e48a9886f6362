"""Metric definitions: counters, histograms and gauges, declared at module level beside the code that feeds them.

Recording costs well under a microsecond (a dict look-up and an addition under a lock), where the instruments of the
OpenTelemetry SDK cost above ten: a PUT crosses dozens of them. So values are kept here, and `dwd.observability.export`
hands them out in OpenTelemetry's data model when somebody asks. Definitions work before anything is exported.

Invariants:
* counters and histograms are cumulative since the process started, and never lose an addition between threads;
* a metric holds at most `LABEL_SETS_MAX` label sets; what comes after falls into `{overflow="true"}`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import TypeVar

from dwd.base.errors import InvariantViolation

LABEL_SETS_MAX = 1_000
OVERFLOW: tuple[tuple[str, str], ...] = (("overflow", "true"),)

SECONDS_BOUNDS = (
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
BYTES_BOUNDS = tuple(float(4**power) for power in range(5, 17))
COUNT_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0)

Label = str | int
Key = tuple[tuple[str, Label], ...]
Reading = float | Iterable[tuple[float, Mapping[str, Label]]]
"""What a gauge's callback returns: one value, or one per label set."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


@dataclass(slots=True)
class Distribution:
    """What a histogram knows of one label set. `counts` has one more element than the bounds."""

    counts: list[int]
    count: int = 0
    total: float = 0.0


class Instrument:
    """Name, description and unit (UCUM: "s", "By", "1" or "{thing}") of a metric."""

    def __init__(self, name: str, description: str, unit: str) -> None:
        self.name = name
        self.description = description
        self.unit = unit
        self._lock = Lock()


class Counter(Instrument):
    """A sum that only grows."""

    def __init__(self, name: str, description: str, unit: str) -> None:
        super().__init__(name, description, unit)
        self._values: dict[Key, float] = {}

    def add(self, amount: float = 1, /, **labels: Label) -> None:
        """Label names are few and fixed, their values from a small set: never a key, an address or a request's id."""
        key = tuple(labels.items())
        with self._lock:
            values = self._values
            if key not in values and len(values) >= LABEL_SETS_MAX:
                key = OVERFLOW
            values[key] = values.get(key, 0) + amount

    def values(self) -> dict[Key, float]:
        """The sums by sorted label set."""
        with self._lock:
            items = list(self._values.items())
        merged: dict[Key, float] = {}
        for key, value in items:
            merged[canonical(key)] = merged.get(canonical(key), 0) + value
        return merged


class Histogram(Instrument):
    """How a measured value is distributed over fixed buckets (upper bounds inclusive)."""

    def __init__(self, name: str, description: str, unit: str, bounds: Sequence[float]) -> None:
        super().__init__(name, description, unit)
        if not bounds or any(low >= high for low, high in pairwise(bounds)):
            raise InvariantViolation(f"{name}: histogram bounds must grow")
        self.bounds = tuple(bounds)
        self._values: dict[Key, Distribution] = {}

    def record(self, value: float, /, **labels: Label) -> None:
        """The same rule for labels as for `Counter.add`."""
        key = tuple(labels.items())
        with self._lock:
            cell = self._values.get(key)
            if cell is None:
                cell = self._cell(key)
            cell.counts[bisect_left(self.bounds, value)] += 1
            cell.count += 1
            cell.total += value

    def values(self) -> dict[Key, Distribution]:
        """A copy of the distributions by sorted label set."""
        merged: dict[Key, Distribution] = {}
        with self._lock:
            for key, cell in self._values.items():
                into = merged.setdefault(canonical(key), Distribution([0] * len(cell.counts)))
                into.counts = [left + right for left, right in zip(into.counts, cell.counts, strict=True)]
                into.count += cell.count
                into.total += cell.total
        return merged

    def _cell(self, key: Key) -> Distribution:
        if len(self._values) >= LABEL_SETS_MAX:
            key = OVERFLOW
        return self._values.setdefault(key, Distribution([0] * (len(self.bounds) + 1)))


class Gauge(Instrument):
    """A value that goes up and down, read from its callbacks when the metrics are exported.

    Several owners in one process (nodes of a test) may each add a callback; each removes its own when it stops.
    """

    def __init__(self, name: str, description: str, unit: str) -> None:
        super().__init__(name, description, unit)
        self._callbacks: list[Callable[[], Reading]] = []

    def watch(self, callback: Callable[[], Reading]) -> Callable[[], None]:
        """Read `callback` too, from now on; call what is returned to stop. Callbacks may run on any thread."""
        with self._lock:
            self._callbacks.append(callback)

        def unwatch() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unwatch

    def callbacks(self) -> tuple[Callable[[], Reading], ...]:
        with self._lock:
            return tuple(self._callbacks)


_instruments: dict[str, Instrument] = {}
_registering = Lock()


def counter(name: str, description: str, unit: str = "1") -> Counter:
    """Declare a counter: `counter("dwd.gateway.requests", "S3 requests answered", "{request}")`."""
    return _declare(Counter(name, description, unit))


def histogram(name: str, description: str, unit: str = "s", bounds: Sequence[float] | None = None) -> Histogram:
    """Declare a histogram; its buckets fit the unit unless `bounds` are given."""
    fitting = {"s": SECONDS_BOUNDS, "By": BYTES_BOUNDS}.get(unit, COUNT_BOUNDS)
    return _declare(Histogram(name, description, unit, bounds or fitting))


def gauge(name: str, description: str, unit: str = "1", callback: Callable[[], Reading] | None = None) -> Gauge:
    """Declare a gauge, and add `callback` to it if there is one already."""
    declared = _declare(Gauge(name, description, unit))
    if callback is not None:
        declared.watch(callback)
    return declared


def instruments() -> tuple[Instrument, ...]:
    """All that is declared, by name."""
    with _registering:
        return tuple(_instruments[name] for name in sorted(_instruments))


def canonical(key: Key) -> Key:
    """The label set in one order with string values, however the caller wrote it."""
    return tuple(sorted((name, str(value)) for name, value in key))


Declared = TypeVar("Declared", bound=Instrument)


def _declare(new: Declared) -> Declared:
    """`new`, or what the same definition made before. Raises InvariantViolation when two definitions disagree."""
    if _NAME.fullmatch(new.name) is None:
        raise InvariantViolation(f"not a metric name: {new.name!r}")
    with _registering:
        known = _instruments.setdefault(new.name, new)
    if type(known) is not type(new) or (known.unit, known.description) != (new.unit, new.description):
        raise InvariantViolation(f"metric {new.name} is declared twice, differently")
    return known
