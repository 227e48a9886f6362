"""The circuit breaker of a device: every way from one state to another."""

from __future__ import annotations

from dwd.base.ids import DeviceId
from dwd.blocks.core.breaker import FAILURES_MAX, OPEN_SECONDS, Breaker, BreakerState
from dwd.blocks.latency import Latencies
from tests.twins.manual_clock import ManualClock

NOW = 100.0


def opened() -> Breaker:
    breaker = Breaker()
    assert [breaker.failed(NOW) for _ in range(FAILURES_MAX)] == [False] * (FAILURES_MAX - 1) + [True]
    return breaker


def trying() -> Breaker:
    breaker = opened()
    breaker.began(NOW + OPEN_SECONDS)
    return breaker


def test_it_opens_when_failures_come_in_a_row() -> None:
    assert (FAILURES_MAX, OPEN_SECONDS) == (5, 30.0)
    breaker = opened()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows(NOW + OPEN_SECONDS - 0.001)
    assert breaker.allows(NOW + OPEN_SECONDS)


def test_it_stays_closed_when_a_success_comes_between_failures() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES_MAX - 1):
            assert not breaker.failed(NOW)
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.allows(NOW)


def test_one_request_tries_when_the_time_is_over() -> None:
    breaker = trying()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.allows(NOW + OPEN_SECONDS)


def test_it_stays_open_when_a_request_goes_out_too_early() -> None:
    breaker = opened()
    breaker.began(NOW + 1)
    assert breaker.state is BreakerState.OPEN


def test_it_closes_when_the_trying_request_succeeds() -> None:
    breaker = trying()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert not breaker.failed(NOW)


def test_it_opens_again_when_the_trying_request_fails() -> None:
    breaker, later = trying(), NOW + OPEN_SECONDS
    assert breaker.failed(later)
    assert not breaker.allows(later + OPEN_SECONDS - 0.001)
    assert breaker.allows(later + OPEN_SECONDS)


def test_the_next_request_tries_when_the_trying_one_was_given_up() -> None:
    breaker, later = trying(), NOW + OPEN_SECONDS
    breaker.abandoned(later)
    assert breaker.allows(later)
    breaker.began(later)
    assert breaker.state is BreakerState.HALF_OPEN


def test_late_failures_do_not_prolong_it_when_it_is_open() -> None:
    breaker = opened()
    assert not breaker.failed(NOW + 20)
    assert breaker.allows(NOW + OPEN_SECONDS)


def test_a_device_is_asked_again_when_it_came_back_while_its_breaker_was_open() -> None:
    clock, device = ManualClock(), DeviceId(1)
    latencies = Latencies(clock)
    for _ in range(FAILURES_MAX):
        latencies.began(device)
        latencies.failed(device)
    assert not latencies.usable(device, came_back_ms=clock.unix_ms() - 1)
    assert latencies.standing(device).breaker is BreakerState.OPEN
    assert latencies.usable(device, came_back_ms=clock.unix_ms() + 1)
    assert latencies.standing(device).breaker is BreakerState.CLOSED
