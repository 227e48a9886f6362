"""Which leaderships are handed over: the pure decision, at sizes from one group to a thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwd.base.ids import GroupId, NodeId
from dwd.meta.core.leaderships import GAP, Leading, LedGroup, Move, plan_moves

MOVES = 10_000


def leading(led: Mapping[int, Mapping[int, Iterable[int]]], reluctant: Iterable[int] = ()) -> dict[NodeId, Leading]:
    """Node -> {group -> voters}."""
    return {
        NodeId(node): Leading(
            groups=tuple(
                LedGroup(group=GroupId(group), fit=tuple(NodeId(v) for v in voters if v != node))
                for group, voters in groups.items()
            ),
            reluctant=node in set(reluctant),
        )
        for node, groups in led.items()
    }


def counts(led: Mapping[NodeId, Leading], moves: Iterable[Move]) -> Counter[int]:
    found = Counter({int(node): len(told.groups) for node, told in led.items()})
    for move in moves:
        found[move.source] -= 1
        found[move.target] += 1
    return found


def test_a_new_clusters_leaders_are_spread_when_all_are_on_the_first_node() -> None:
    led = leading({1: {group: range(1, 6) for group in range(17)}, 2: {}, 3: {}, 4: {}, 5: {}})
    moves = plan_moves(led, takers=[NodeId(n) for n in range(1, 6)], moves_max=MOVES)
    assert sorted(counts(led, moves).values()) == [3, 3, 3, 4, 4]
    assert len(moves) == 13, "no group moves that need not"
    assert len({move.group for move in moves}) == 13


def test_nothing_moves_when_counts_differ_by_one() -> None:
    led = leading({1: {1: (1, 2), 2: (1, 2)}, 2: {3: (1, 2)}})
    assert plan_moves(led, takers=[NodeId(1), NodeId(2)], moves_max=MOVES) == ()


def test_a_node_in_between_passes_on_when_no_group_spans_the_gap() -> None:
    led = leading({1: {1: (1, 2), 2: (1, 2), 3: (1, 2)}, 2: {4: (2, 3), 5: (2, 3)}, 3: {6: (3, 2)}})
    moves = plan_moves(led, takers=[NodeId(n) for n in (1, 2, 3)], moves_max=MOVES)
    assert [(m.source, m.target) for m in moves] == [(1, 2), (2, 3)]
    assert set(counts(led, moves).values()) == {2}


def test_a_node_that_should_not_lead_gives_everything_away_and_takes_nothing() -> None:
    led = leading({1: {1: (1, 2, 3), 2: (1, 2, 3)}, 2: {3: (1, 2, 3)}, 3: {}}, reluctant=[1])
    moves = plan_moves(led, takers=[NodeId(n) for n in (1, 2, 3)], moves_max=MOVES)
    assert counts(led, moves) == Counter({1: 0, 2: 2, 3: 1})
    drained = plan_moves(leading({1: {1: (1, 2)}, 2: {}}), takers=[NodeId(2)], moves_max=MOVES)
    assert [(m.source, m.target) for m in drained] == [(1, 2)], "also without any gap"


def test_a_group_stays_when_it_rests_or_nobody_else_is_fit() -> None:
    led = leading({1: {1: (1, 2), 2: (1,), 3: (1, 2)}, 2: {}})
    moves = plan_moves(led, takers=[NodeId(1), NodeId(2)], resting=[GroupId(1)], moves_max=MOVES)
    assert [m.group for m in moves] == [3]


def test_moves_are_bounded_when_there_is_much_to_even_out() -> None:
    led = leading({1: dict.fromkeys(range(100), (1, 2)), 2: {}})
    assert len(plan_moves(led, takers=[NodeId(1), NodeId(2)], moves_max=4)) == 4


@pytest.mark.parametrize(("nodes", "groups"), [(6, 1_024), (60, 1_024)])
def test_many_shards_end_within_one_of_each_other(nodes: int, groups: int) -> None:
    """Voters overlap as rings of five do: nobody sees all groups."""
    led: dict[int, dict[int, list[int]]] = {n: {} for n in range(nodes)}
    for group in range(groups):
        voters = [(group + i) % nodes for i in range(5)]
        led[min(voters)][group] = voters
    told = leading(led)
    moves = plan_moves(told, takers=list(told), moves_max=MOVES)
    after = counts(told, moves)
    assert max(after.values()) - min(after.values()) <= 1


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_planning_again_finds_nothing_after_everything_moved(data: st.DataObject) -> None:
    nodes = data.draw(st.integers(1, 6))
    led: dict[int, dict[int, list[int]]] = {n: {} for n in range(nodes)}
    for group in range(data.draw(st.integers(0, 20))):
        voters = data.draw(st.lists(st.integers(0, nodes - 1), min_size=1, max_size=5, unique=True))
        led[data.draw(st.sampled_from(voters))][group] = voters
    for _ in range(40):  # each group moves once a plan
        told = leading(led)
        moves = plan_moves(told, takers=list(told), moves_max=MOVES)
        for move in moves:
            assert move.target in led[move.source][move.group], "only to voters"
            led[move.target][move.group] = led[move.source].pop(move.group)
        if not moves:
            break
    assert not moves
    for node, groups in led.items():
        for voters in groups.values():
            assert all(len(groups) - len(led[v]) < GAP for v in voters), node
