"""The real clock and dice keep what their protocols promise."""

from __future__ import annotations

from dwd.base.clock import Clock, Rng
from dwd.runtime.clock import SystemClock, SystemRng


def test_monotonic_never_goes_back_when_read_often() -> None:
    clock: Clock = SystemClock()
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


def test_unix_ms_is_milliseconds_when_compared_with_a_known_date() -> None:
    year_2020_ms, year_2200_ms = 1_577_836_800_000, 7_258_118_400_000
    assert year_2020_ms < SystemClock().unix_ms() < year_2200_ms


def test_draws_stay_within_bounds_when_drawn_often() -> None:
    rng: Rng = SystemRng()
    assert {rng.below(3) for _ in range(200)} == {0, 1, 2}
    assert all(2.0 <= rng.uniform(2.0, 3.0) <= 3.0 for _ in range(200))
    assert all(rng.bits(63) < 2**63 for _ in range(200))
    assert len(rng.token_bytes(32)) == 32


def test_tokens_differ_when_drawn_twice() -> None:
    rng = SystemRng()
    assert rng.token_bytes(16) != rng.token_bytes(16)
    assert rng.bits(63) != rng.bits(63)
