"""The checker against histories whose answer is known, and against every order of small random ones."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from tests.linearizability.checker import check
from tests.linearizability.events import Event, Op, listing
from tests.linearizability.objects import Impossible, step


def put(value: object, start: float, end: float | None, result: object = None) -> Event:
    return Event(process="p", op=Op.PUT, key="k", argument=value, invoked=start, returned=end, result=result)  # type: ignore[arg-type]


def get(value: object, start: float, end: float) -> Event:
    return Event(process="g", op=Op.GET, key="k", invoked=start, returned=end, result=value)  # type: ignore[arg-type]


def put_if(expected: object, value: object, start: float, end: float | None, result: bool = True) -> Event:
    return Event(
        process="c", op=Op.PUT_IF, key="k", argument=(expected, value), invoked=start, returned=end, result=result
    )


def test_history_is_accepted_when_an_order_exists() -> None:
    assert check([put(1, 0, 10), put(2, 0, 10), get(1, 1, 2), get(2, 3, 4)]) == []
    assert check([put(1, 0, 1), put_if(1, 2, 2, 3), get(2, 4, 5), put_if(1, 3, 6, 7, result=False)]) == []


def test_history_is_refused_when_a_read_is_stale() -> None:
    (violation,) = check([put(1, 0, 1), put(2, 2, 3), get(1, 4, 5)])
    assert violation.stuck == (get(1, 4, 5),)
    assert "get" in str(violation)


def test_history_is_refused_when_reads_go_back() -> None:
    assert check([put(1, 0, 1), put(2, 2, 9), get(2, 3, 4), get(1, 5, 6)])


def test_unknown_write_may_take_effect_late_or_never_when_nobody_knows() -> None:
    assert check([put(1, 0, 1), put(2, 2, None), get(1, 3, 4), get(2, 5, 6)]) == []
    assert check([put(1, 0, 1), put(2, 2, None), get(1, 3, 4)]) == []
    assert check([put(1, 0, 1), put(2, 2, None), get(2, 3, 4), get(1, 5, 6)])
    assert check([get(2, 0, 1), put(2, 2, None)]), "not before it was invoked"


def test_retry_that_took_effect_twice_is_refused_when_something_came_between() -> None:
    once = [put_if(None, 1, 0, 1), put(2, 2, 3), get(2, 4, 5)]
    assert check(once) == []
    assert check([*once, get(1, 6, 7)])


def test_swap_is_refused_when_two_win() -> None:
    assert check([put_if(None, 1, 0, 5), put_if(None, 2, 0, 5)])
    assert check([put_if(None, 1, 0, 5), put_if(None, 2, 0, 5, result=False)]) == []
    assert check([put(1, 0, 1, result=True)]), "there was nothing before"


def test_listing_counts_as_reads_when_spread_over_keys() -> None:
    shown = list(listing(process="l", keys=("k", "other"), shown={"other": 1}, invoked=2, returned=3))
    assert [violation.key for violation in check([put(1, 0, 1), *shown])] == ["k", "other"]


def test_many_unknown_writes_are_decided_when_they_never_end() -> None:
    events = [put(1000 + n, n, None) for n in range(40)]
    events += [put(n, n, n + 0.4) for n in range(200)] + [get(n, n + 0.5, n + 0.9) for n in range(200)]
    assert check(events) == []
    assert check([*events, get(-1, 300, 301)])[0].undecided is False


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    events: list[Event] = []
    for number in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, 8))
        end = draw(st.one_of(st.none(), st.integers(start + 1, start + 6)))
        op = draw(st.sampled_from(list(Op)))
        value = draw(st.sampled_from([None, 1, 2])) if op is Op.GET else draw(st.booleans())
        argument = {Op.PUT: number % 2 + 1, Op.PUT_IF: (draw(st.sampled_from([None, 1, 2])), 2)}.get(op)
        result = draw(st.none()) if op in {Op.PUT, Op.DELETE} and draw(st.booleans()) else value
        events.append(
            Event(process=str(number), op=op, key="k", argument=argument, invoked=start, returned=end, result=result)
        )
    return events


@given(histories())
def test_verdict_is_that_of_trying_every_order_when_histories_are_small(events: list[Event]) -> None:
    assert (check(events) == []) == by_force(events)


def by_force(events: list[Event]) -> bool:
    known = [event for event in events if event.returned is not None]
    unknown = [event for event in events if event.returned is None]
    subsets = (
        known + [event for at, event in enumerate(unknown) if chosen >> at & 1] for chosen in range(1 << len(unknown))
    )
    return any(fits(order) for subset in subsets for order in permutations(subset))


def fits(order: tuple[Event, ...]) -> bool:
    for place, later in enumerate(order):
        if any(later.returned is not None and later.returned < earlier.invoked for earlier in order[:place]):
            return False
    state = None
    try:
        for event in order:
            state = step(state, event)  # type: ignore[assignment]
    except Impossible:
        return False
    return True
