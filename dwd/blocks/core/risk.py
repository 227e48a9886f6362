"""What speaks against a change of layout: reasons to refuse it, and what people should know before they agree.

A profile promises to survive the loss of as many devices as it has parity. Over nodes it may survive fewer, where there
are not enough of them; a change may not take away from what is survived now while that is no more than the promise.
Zones and racks are a bonus: losing some of it is told, and refused nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, fields

from dwd.blocks.core.movement import Losses, Movement, Survival

_HARD = frozenset({"nodes", "devices"})


def refusals(movement: Movement) -> tuple[str, ...]:
    """Why the change is made by force only."""
    return tuple(text for survival in movement.survivals for text in _lowered(survival, hard=True))


def warnings(movement: Movement) -> tuple[str, ...]:
    """What is survived less over zones and racks, or only while data moves and devices stop taking it."""
    told = [text for survival in movement.survivals for text in _lowered(survival, hard=False)]
    for survival in movement.survivals:
        if survival.during is not None and survival.at_worst is not None:
            told += stuck(survival.profile.name, survival.during, survival.at_worst)
        elif survival.before is None and survival.after.devices < survival.profile.parity:
            told.append(
                f"{survival.profile.name}: there are too few devices to survive {survival.profile.parity} losses; "
                f"{survival.after.devices} are survived"
            )
    return tuple(told)


def _lowered(survival: Survival, *, hard: bool) -> Iterator[str]:
    if survival.before is None:
        return
    promise = survival.profile.parity
    for level, before, after in _levels(survival.before, survival.after):
        if (level in _HARD) is hard and after < min(before, promise):
            name = survival.profile.name
            yield f"{name}: losses of {level} survived fall from {before} to {after} (promised: {promise})"


def stuck(name: str, during: Losses, at_worst: Losses) -> Iterator[str]:
    """What moves that devices stop half-way would cost."""
    found: dict[tuple[int, int], list[str]] = {}
    for level, least, lowest in _levels(during, at_worst):
        if lowest < least and level in _HARD:
            found.setdefault((least, lowest), []).append(level)
    for (least, lowest), levels in found.items():
        yield (
            f"{name}: should a device stop taking data meanwhile, {lowest} instead of {least} losses of"
            f" {' and '.join(levels)} may be survived until it goes on"
        )


def _levels(first: Losses, second: Losses) -> Iterator[tuple[str, int, int]]:
    """Racks are left out where they say no more than zones do."""
    for field, one, other in zip(fields(Losses), astuple(first), astuple(second), strict=True):
        if field.name != "racks" or (one, other) != (first.zones, second.zones):
            yield field.name, one, other
