"""Who is asked first, by each strategy: how choices spread over many of them."""

from __future__ import annotations

from collections import Counter

import pytest

from dwd.base.balance import Balancer, Load, Strategy
from tests.twins.memory_blocks import SeededRng

CHOICES = 6_000


def spread(strategy: Strategy, loads: list[Load]) -> Counter[int]:
    balancer = Balancer(strategy, SeededRng(7))
    return Counter(balancer.order(loads)[0] for _ in range(CHOICES))


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_candidate_is_named_once_when_an_order_is_asked_for(strategy: Strategy) -> None:
    balancer = Balancer(strategy, SeededRng(1))
    loads = [Load(weight=1.0 + n, inflight=n % 3, seconds=0.01 * (n % 4)) for n in range(9)]
    for count in range(10):
        assert sorted(balancer.order(loads[:count])) == list(range(count))


def test_turns_are_taken_when_the_strategy_is_round_robin() -> None:
    balancer = Balancer(Strategy.ROUND_ROBIN, SeededRng(1))
    assert [balancer.order([Load()] * 3) for _ in range(4)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_the_least_loaded_for_its_weight_goes_first_when_the_strategy_is_least_connections() -> None:
    loads = [Load(inflight=4), Load(inflight=2), Load(weight=4.0, inflight=4)]
    assert Balancer(Strategy.LEAST_CONNECTIONS, SeededRng(1)).order(loads) == [2, 1, 0]


def test_choices_follow_the_weights_when_the_strategy_is_weighted_random() -> None:
    found = spread(Strategy.WEIGHTED_RANDOM, [Load(weight=1.0), Load(weight=2.0), Load(weight=3.0)])
    for index, share in enumerate((1 / 6, 2 / 6, 3 / 6)):
        assert abs(found[index] / CHOICES - share) < 0.03


def test_the_fastest_goes_first_and_the_unknown_before_it_when_the_strategy_is_latency_based() -> None:
    loads = [Load(seconds=0.03), Load(seconds=0.01, inflight=90), Load(), Load(seconds=0.02)]
    assert Balancer(Strategy.LATENCY_BASED, SeededRng(1)).order(loads) == [2, 1, 3, 0]


def test_speed_and_load_both_count_when_the_strategy_is_adaptive() -> None:
    loads = [Load(seconds=0.010, inflight=9), Load(seconds=0.030, inflight=1), Load(seconds=0.500)]
    assert Balancer(Strategy.ADAPTIVE, SeededRng(1)).order(loads) == [1, 0, 2]


@pytest.mark.parametrize("strategy", [Strategy.LEAST_CONNECTIONS, Strategy.LATENCY_BASED, Strategy.ADAPTIVE])
def test_equals_share_the_choices_when_nothing_tells_them_apart(strategy: Strategy) -> None:
    found = spread(strategy, [Load(inflight=2, seconds=0.01)] * 3)
    for index in range(3):
        assert abs(found[index] / CHOICES - 1 / 3) < 0.03


def test_load_evens_out_when_each_choice_stays_under_way() -> None:
    for strategy in (Strategy.LEAST_CONNECTIONS, Strategy.ADAPTIVE):
        balancer, inflight = Balancer(strategy, SeededRng(3)), [0, 0, 0, 0]
        seconds = [0.01, 0.01, 0.01, 0.04]
        for _ in range(400):
            loads = [Load(inflight=n, seconds=s) for n, s in zip(inflight, seconds, strict=True)]
            inflight[balancer.order(loads)[0]] += 1
        slow = 400 // (4 if strategy is Strategy.LEAST_CONNECTIONS else 13)
        assert abs(inflight[3] - slow) <= 2
        assert max(inflight[:3]) - min(inflight[:3]) <= 2
