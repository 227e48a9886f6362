"""Recording: sums, buckets, label sets, limits, threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from dwd.base.errors import InvariantViolation
from dwd.observability import metrics
from dwd.observability.metrics import LABEL_SETS_MAX, OVERFLOW, counter, gauge, histogram


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_instruments", {})


def test_sums_are_kept_apart_by_labels_when_added() -> None:
    requests = counter("dwd.test.requests", "requests", "{request}")
    requests.add(op="put")
    requests.add(2, op="put")
    requests.add(op="get")
    requests.add(0.5)
    assert requests.values() == {(("op", "put"),): 3, (("op", "get"),): 1, (): 0.5}


def test_label_sets_are_one_when_written_in_another_order_or_type() -> None:
    requests = counter("dwd.test.requests", "requests", "{request}")
    requests.add(op="put", status=200)
    requests.add(status="200", op="put")
    assert requests.values() == {(("op", "put"), ("status", "200")): 2}
    times = histogram("dwd.test.times", "times", "s")
    times.record(1.0, op="put", status=200)
    times.record(1.0, status=200, op="put")
    assert [cell.count for cell in times.values().values()] == [2]


def test_label_sets_overflow_into_one_when_there_are_too_many() -> None:
    requests = counter("dwd.test.requests", "requests", "{request}")
    times = histogram("dwd.test.times", "times", "s")
    for number in range(LABEL_SETS_MAX + 50):
        requests.add(key=number)
        times.record(1.0, key=number)
    assert requests.values()[OVERFLOW] == 50
    assert times.values()[OVERFLOW].count == 50
    assert len(requests.values()) == len(times.values()) == LABEL_SETS_MAX + 1
    requests.add(key=0)
    assert requests.values()[(("key", "0"),)] == 2


def test_no_addition_is_lost_when_threads_add_at_once() -> None:
    requests = counter("dwd.test.requests", "requests", "{request}")
    times = histogram("dwd.test.times", "times", "s")

    def hammer(_worker: int) -> None:
        for _ in range(5_000):
            requests.add(op="put")
            times.record(0.1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(hammer, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert requests.values() == {(("op", "put"),): 20_000}
    (cell,) = times.values().values()
    assert (cell.count, sum(cell.counts)) == (20_000, 20_000)


def test_values_fall_into_the_bucket_whose_upper_bound_includes_them_when_recorded() -> None:
    times = histogram("dwd.test.times", "times", "s", bounds=(1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        times.record(value)
    (cell,) = times.values().values()
    assert cell.counts == [2, 2, 1]
    assert (cell.count, cell.total) == (5, 104.0)


def test_reading_is_a_copy_when_recording_goes_on() -> None:
    times = histogram("dwd.test.times", "times", "s")
    times.record(1.0)
    before = times.values()[()]
    times.record(1.0)
    assert (before.count, sum(before.counts)) == (1, 1)


def test_buckets_suit_the_unit_when_none_are_given() -> None:
    assert histogram("dwd.test.a", "a", "s").bounds == metrics.SECONDS_BOUNDS
    assert histogram("dwd.test.b", "b", "By").bounds == metrics.BYTES_BOUNDS
    assert histogram("dwd.test.c", "c", "{entry}").bounds == metrics.COUNT_BOUNDS


@pytest.mark.parametrize("bounds", [(2.0, 1.0), (1.0, 1.0)])
def test_bounds_are_refused_when_they_do_not_grow(bounds: tuple[float, ...]) -> None:
    with pytest.raises(InvariantViolation):
        histogram("dwd.test.times", "times", "s", bounds=bounds)


def test_definition_is_shared_when_made_twice_alike() -> None:
    assert counter("dwd.test.a", "a", "1") is counter("dwd.test.a", "a", "1")


def test_definition_is_refused_when_another_says_differently() -> None:
    counter("dwd.test.a", "a", "1")
    with pytest.raises(InvariantViolation):
        counter("dwd.test.a", "a", "By")
    with pytest.raises(InvariantViolation):
        histogram("dwd.test.a", "a", "1")


@pytest.mark.parametrize("name", ["", "Dwd.a", "dwd..a", "dwd-a", "1dwd", "dwd.a."])
def test_name_is_refused_when_malformed(name: str) -> None:
    with pytest.raises(InvariantViolation):
        counter(name, "a", "1")


def test_callbacks_of_several_owners_are_read_until_each_unwatches() -> None:
    size = gauge("dwd.test.size", "size", "By", lambda: 1.0)
    unwatch = size.watch(lambda: 2.0)
    assert gauge("dwd.test.size", "size", "By") is size
    assert [callback() for callback in size.callbacks()] == [1.0, 2.0]
    unwatch()
    unwatch()
    assert [callback() for callback in size.callbacks()] == [1.0]
