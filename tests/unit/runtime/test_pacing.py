"""Token bucket and pacer: pure arithmetic over a clock that the test turns."""

from __future__ import annotations

import pytest

from dwd.base.errors import InvariantViolation
from dwd.runtime.pacing import PAUSE_SECONDS_MAX, Pacer, TokenBucket


class HandClock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def unix_ms(self) -> int:
        return int(self.now * 1000)


def test_burst_is_admitted_at_once_when_the_bucket_is_full() -> None:
    bucket = TokenBucket(HandClock(), rate=10, burst=50)
    assert bucket.take(50) == 0.0
    assert bucket.take(1) == pytest.approx(0.1)


def test_wait_is_exact_when_units_are_missing() -> None:
    clock = HandClock()
    bucket = TokenBucket(clock, rate=10, burst=50)
    bucket.take(50)
    wait = bucket.take(20)
    assert wait == pytest.approx(2.0)
    clock.now += wait - 0.01
    assert bucket.take(20) > 0
    clock.now += 0.011
    assert bucket.take(20) == 0.0


def test_refused_units_are_not_taken_when_the_caller_must_wait() -> None:
    clock = HandClock()
    bucket = TokenBucket(clock, rate=10, burst=50)
    bucket.take(50)
    assert bucket.take(20) == bucket.take(20) == pytest.approx(2.0)


def test_bucket_never_holds_more_than_its_burst_when_idle_for_long() -> None:
    clock = HandClock()
    bucket = TokenBucket(clock, rate=10, burst=50)
    clock.now += 10_000
    assert bucket.take(50) == 0.0
    assert bucket.take(1) > 0


def test_average_holds_when_one_request_exceeds_the_burst() -> None:
    clock = HandClock()
    bucket = TokenBucket(clock, rate=10, burst=50)
    assert bucket.take(200) == 0.0  # 150 in debt
    assert bucket.take(50) == pytest.approx(20.0)


def test_new_rate_counts_from_now_when_changed() -> None:
    clock = HandClock()
    bucket = TokenBucket(clock, rate=10, burst=50)
    bucket.take(50)
    clock.now += 1
    bucket.set_rate(rate=100, burst=20)
    assert bucket.take(20) == pytest.approx(0.1)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1)])
def test_figures_are_refused_when_not_positive(rate: float, burst: float) -> None:
    with pytest.raises(InvariantViolation):
        TokenBucket(HandClock(), rate=rate, burst=burst)
    with pytest.raises(InvariantViolation):
        TokenBucket(HandClock(), rate=1, burst=1).set_rate(rate=rate, burst=burst)


def test_pause_is_proportional_when_work_is_steady() -> None:
    pacer = Pacer(2.0)
    assert [pacer.pause_after(0.1) for _ in range(5)] == pytest.approx([0.2] * 5)


def test_pauses_grow_when_the_machine_slows_down() -> None:
    pacer = Pacer(2.0)
    before = pacer.pause_after(0.1)
    grown = [pacer.pause_after(1.0) for _ in range(30)]
    assert grown == sorted(grown)
    assert before < grown[0] < grown[-1] == pytest.approx(2.0, rel=0.01)


def test_pause_is_bounded_when_work_took_very_long() -> None:
    assert Pacer(100.0).pause_after(3600) == PAUSE_SECONDS_MAX


def test_pause_is_none_when_pace_is_zero() -> None:
    assert Pacer(0.0).pause_after(10) == 0.0


@pytest.mark.parametrize("pace", [-0.1, 1_000.5, float("nan")])
def test_pace_is_refused_when_out_of_range(pace: float) -> None:
    with pytest.raises(InvariantViolation):
        Pacer(pace)
