"""The object store as one register a key: what each operation does to it, and what it may answer."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import assert_never

from tests.linearizability.events import Event, Op

UNSEEN = "(a value that nobody saw)"


class Impossible(Exception):
    """The event cannot have happened in this state."""


def step(state: Hashable, event: Event) -> Hashable:
    """The state after `event` took effect in `state`. An unknown outcome (`returned` None) fits any state."""
    known = event.returned is not None
    match event.op:
        case Op.PUT:
            _fits(known and event.result is not None, event.result, state is not None)
            return event.argument
        case Op.DELETE:
            _fits(known and event.result is not None, event.result, state is not None)
            return None
        case Op.PUT_IF:
            expected, value = _pair(event.argument)
            _fits(known, event.result, state == expected)
            return value if state == expected else state
        case Op.GET:
            _fits(known, event.result, state)
            return state
        case Op.EXISTS:
            _fits(known, event.result, state is not None)
            return state
        case _:
            assert_never(event.op)


def merged(events: Sequence[Event]) -> list[Event]:
    """The same history with the values of unknown writes that nobody saw made one: such writes can take each other's
    place, which keeps the search short. Unknown reads tell nothing and go.
    """
    seen: set[Hashable] = {event.result for event in events if event.op is Op.GET and event.returned is not None}
    seen |= {_pair(event.argument)[0] for event in events if event.op is Op.PUT_IF}
    return [
        _merged(event, seen) if event.returned is None else event
        for event in events
        if event.returned is not None or event.op not in {Op.GET, Op.EXISTS}
    ]


def _merged(event: Event, seen: set[Hashable]) -> Event:
    if event.op is Op.PUT and event.argument not in seen:
        return replace(event, argument=UNSEEN)
    if event.op is Op.PUT_IF:
        expected, value = _pair(event.argument)
        return event if value in seen else replace(event, argument=(expected, UNSEEN))
    return event


def _fits(told: bool, result: Hashable, truth: Hashable) -> None:
    if told and result != truth:
        raise Impossible


def _pair(argument: Hashable) -> tuple[Hashable, Hashable]:
    if not isinstance(argument, tuple) or len(argument) != 2:
        raise TypeError(f"put_if takes (expected, value), not {argument!r}")
    return argument
