"""Whose clock is wrong. Source: raft.md section 4."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dwd.raft.core.clocks import OFF_MS, RIGHT_MS, judge
from dwd.raft.core.quorum import majority

DAY = 86_400_000.0
CLOCKS = st.lists(st.floats(-DAY, DAY, allow_nan=False), min_size=1, max_size=8)


def test_nobody_is_judged_when_less_than_a_quorum_of_clocks_is_known() -> None:
    assert judge(DAY, [], voters=1, error_ms=0) is None
    assert judge(DAY, [0.0], voters=4, error_ms=0) is None
    assert judge(DAY, [0.0, 1.0], voters=5, error_ms=0) is not None


def test_clock_is_off_when_it_is_far_from_two_that_agree() -> None:
    for own in (DAY, -DAY, 600.0, -600.0):
        opinion = judge(own, [0.0, 10.0], voters=3, error_ms=0)
        assert opinion is not None
        assert opinion.off
        assert not opinion.right
        assert (opinion.distance_ms > 0) == (own > 0)
    opinion = judge(5.0, [0.0, DAY], voters=3, error_ms=0)
    assert opinion is not None
    assert opinion.right, "the other one is wrong"


def test_neither_is_blamed_when_two_clocks_differ() -> None:
    for own, other in ((0.0, DAY), (DAY, 0.0)):
        opinion = judge(own, [other], voters=3, error_ms=0)
        assert opinion is not None
        assert not opinion.off
        assert not opinion.right, "nor does one that was wrong become right by that"


def test_error_is_in_favour_of_what_is_when_an_answer_took_long() -> None:
    def at(own: float, error_ms: float) -> tuple[bool, bool]:
        opinion = judge(own, [0.0, 0.0], voters=3, error_ms=error_ms)
        assert opinion is not None
        return opinion.off, opinion.right

    assert at(OFF_MS + 1, 0) == (True, False)
    assert at(OFF_MS + 1, 50) == (False, False)
    assert at(RIGHT_MS - 1, 0) == (False, True)
    assert at(RIGHT_MS - 1, 50) == (False, False)


@given(CLOCKS, st.floats(-DAY, DAY, allow_nan=False), st.floats(0, 200))
def test_somebody_may_lead_when_all_know_the_same_clocks(clocks: list[float], own: float, error: float) -> None:
    everybody = [own, *clocks]
    opinions = [
        judge(one, everybody[:at] + everybody[at + 1 :], voters=len(everybody), error_ms=error)
        for at, one in enumerate(everybody)
    ]
    allowed = sum(1 for opinion in opinions if opinion is not None and not opinion.off)
    assert allowed >= (1 if len(everybody) % 2 else 2)
    within = [opinion for opinion in opinions if opinion is not None and abs(opinion.distance_ms) <= OFF_MS]
    assert not any(opinion.off for opinion in within)
    assert majority(len(everybody)) <= len(everybody)
