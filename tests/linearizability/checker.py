"""Whether a history is linearizable, key by key: is there an order of the calls that respects real time and in which a
single copy of the object would have answered the same?

Source: Wing & Gong 1993 (the search), Lowe 2017 (remembering which sets of calls in which state led nowhere). Keys are
independent objects and linearizability is local (Herlihy & Wing 1990, theorem 1), so each is searched alone.
Calls that touch at an instant count as concurrent. A call of unknown outcome may be placed anywhere after its start,
or nowhere; of several that would do the same, the earlier invoked is placed first: it can take the place of the later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from tests.linearizability.events import Event, Op
from tests.linearizability.objects import Impossible, merged, step

STEPS_MAX = 2_000_000
"""Of one key's search. Past it the question stays open, which is an error of its own: never taken for a yes."""

Step = Callable[[Hashable, Event], Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A key whose history has no such order. `order` is the longest one that was found, `stuck` what does not fit."""

    key: str
    order: tuple[Event, ...]
    stuck: tuple[Event, ...]
    undecided: bool = False

    def __str__(self) -> str:
        if self.undecided:
            return f"key {self.key!r}: not decided within {STEPS_MAX} steps"
        tail = self.order[-8:]
        lines = [f"key {self.key!r} is not linearizable. The longest order that fits ({len(self.order)} calls) ends:"]
        lines += [f"    {event}" for event in tail]
        lines += ["  and none of these can come next:", *(f"    {event}" for event in self.stuck[:8])]
        return "\n".join(lines)


def check(
    events: Iterable[Event], *, initial: Hashable = None, model: Step = step, steps_max: int = STEPS_MAX
) -> list[Violation]:
    """Empty if the history is linearizable. Every key starts in `initial`."""
    by_key: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_key[event.key].append(event)
    found = (_check_key(key, by_key[key], initial, model, steps_max) for key in sorted(by_key))
    return [violation for violation in found if violation is not None]


class _Call:
    """A place in the doubly linked list of calls and returns, in order of time."""

    __slots__ = ("after", "event", "mate", "next", "number", "previous")

    def __init__(self, event: Event, number: int) -> None:
        self.event = event
        self.number = number
        self.mate: _Call | None = None
        """Of a call: its return, None if that is unknown."""
        self.after = 0
        """The bit of the call that has to be placed before, 0 for none."""
        self.next: _Call | None = None
        self.previous: _Call | None = None


def _check_key(key: str, events: Sequence[Event], initial: Hashable, model: Step, steps_max: int) -> Violation | None:
    events = merged(events)
    head, returns = _linked(events)
    left = sum(1 for event in events if event.returned is not None)
    state, done = initial, 0
    placed: list[tuple[_Call, Hashable]] = []
    longest: tuple[Event, ...] = ()
    seen: set[tuple[int, Hashable]] = set()
    at, steps = head.next, 0
    while left:
        steps += 1
        if steps > steps_max:
            return Violation(key=key, order=longest, stuck=(), undecided=True)
        if at is not None and at not in returns:
            after = _NO if at.after & ~done else _after(model, state, at.event)
            with_it = done | 1 << at.number
            if after is not _NO and (with_it, after) not in seen:
                seen.add((with_it, after))
                placed.append((at, state))
                state, done = after, with_it
                left -= at.mate is not None
                _lift(at)
                at = head.next
            else:
                at = at.next
            continue
        # A call that is not placed has returned, or everything was tried: the last one placed goes elsewhere.
        if len(placed) > len(longest):
            longest = tuple(call.event for call, _ in placed)
        if not placed:
            return _violation(key, events, longest)
        call, state = placed.pop()
        done &= ~(1 << call.number)
        left += call.mate is not None
        _unlift(call)
        at = call.next
    return None


_NO = object()
_NOTHING = Event(process="", op=Op.GET, key="", invoked=0, returned=0)


def _after(model: Step, state: Hashable, event: Event) -> Hashable:
    try:
        return model(state, event)
    except Impossible:
        return _NO


def _linked(events: Sequence[Event]) -> tuple[_Call, frozenset[_Call]]:
    """The list's head, before its first place, and which places are returns."""
    places: list[tuple[float, int, int, _Call]] = []
    returns: set[_Call] = set()
    alike: dict[Hashable, int] = {}
    for number, event in enumerate(sorted(events, key=lambda event: event.invoked)):
        call = _Call(event, number)
        if event.returned is None:
            call.after = alike.get((event.op, event.argument), 0)
            alike[event.op, event.argument] = 1 << number
        places.append((event.invoked, 0, number, call))
        if event.returned is not None:
            call.mate = _Call(event, number)
            returns.add(call.mate)
            places.append((event.returned, 1, number, call.mate))
    places.sort(key=lambda place: place[:3])
    head = last = _Call(_NOTHING, -1)
    for *_, place in places:
        last.next, place.previous = place, last
        last = place
    return head, frozenset(returns)


def _lift(call: _Call) -> None:
    """Take a call and its return out of the list. They remember their places."""
    for place in (call, call.mate):
        if place is not None:
            if place.previous is not None:
                place.previous.next = place.next
            if place.next is not None:
                place.next.previous = place.previous


def _unlift(call: _Call) -> None:
    """In the opposite order of `_lift`."""
    for place in (call.mate, call):
        if place is not None:
            if place.previous is not None:
                place.previous.next = place
            if place.next is not None:
                place.next.previous = place


def _violation(key: str, events: Sequence[Event], longest: tuple[Event, ...]) -> Violation:
    """`stuck`: what had been invoked before the first return that is not in the order."""
    placed = {id(event) for event in longest}
    rest = [event for event in events if id(event) not in placed]
    until = min((event.returned for event in rest if event.returned is not None), default=float("inf"))
    stuck = sorted((e for e in rest if e.invoked <= until), key=lambda e: e.invoked)
    return Violation(key=key, order=longest, stuck=tuple(stuck))
