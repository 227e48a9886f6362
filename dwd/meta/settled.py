"""Which groups a background worker need not look at: it found nothing to do, and nothing has changed since.

A look is a linearizable read: it wakes a group that rests (`dwd.raft.hibernation`). What a worker may find changes with
the group's applied index, which this node knows without asking anybody.
"""

from __future__ import annotations

from collections.abc import Iterable

from dwd.base.ids import GroupId, LogIndex

ALWAYS = float("inf")


class Settled:
    """Of one worker."""

    def __init__(self) -> None:
        self._known: dict[GroupId, tuple[LogIndex, float]] = {}

    def keep(self, groups: Iterable[GroupId]) -> None:
        """Forget what was settled in others: what happens there while they are led elsewhere is not seen here."""
        kept = set(groups)
        self._known = {group: known for group, known in self._known.items() if group in kept}

    def note(self, group: GroupId, index: LogIndex, *, until: float = ALWAYS) -> None:
        """There was nothing to do at `index`, asked for before looking; at `until` look again all the same."""
        self._known[group] = (index, until)

    def forget(self) -> None:
        """Something else changed: look at all of them."""
        self._known.clear()

    def holds(self, group: GroupId, index: LogIndex, now: float) -> bool:
        known = self._known.get(group)
        return known is not None and known[0] == index and now < known[1]
