"""Telling a node that is silent about a group from one that is slow: so that a paused leader is left within a second.

A group is silent at a peer when its oldest request has waited for `SILENT_SECONDS` and not one answer about the group
came in that time; a slow peer still answers some. Its requests are given up then, and until an answer comes only one
at a time is tried: others are refused before they are sent, so whoever asks turns to another node at once.

Hazard: a peer may have carried out what was given up: a proposal's outcome is unknown, and its session keeps a second
one from taking effect.
"""

from __future__ import annotations

from collections.abc import Iterable

from dwd.base.errors import Unavailable
from dwd.base.ids import GroupId

SILENT_SECONDS = 1.0


class Silence:
    """Of one peer. Times are the event loop's."""

    def __init__(self) -> None:
        self._heard: dict[GroupId, float] = {}
        self._silent: set[GroupId] = set()

    def heard(self, group: GroupId, now: float) -> None:
        """An answer about the group came."""
        self._heard[group] = now
        self._silent.discard(group)

    def over(self) -> None:
        """An answer came to what was given up, so the peer is slow and not silent."""
        self._silent.clear()

    def admit(self, group: GroupId, waiting: Iterable[GroupId]) -> None:
        """Before a request is queued behind those of `waiting`. Raises Unavailable: it would wait for nothing."""
        if group in self._silent and group in waiting:
            raise Unavailable("meta.peer_silent", "the node says nothing about the group", group=group)

    def fallen(self, waiting: Iterable[tuple[GroupId, float]], now: float) -> set[GroupId]:
        """Which of the groups are silent now, given (group, since when) of all requests, the oldest first."""
        oldest: dict[GroupId, float] = {}
        for group, since in waiting:
            oldest.setdefault(group, since)
        fallen = {g for g, since in oldest.items() if now - max(since, self._heard.get(g, since)) >= SILENT_SECONDS}
        self._silent |= fallen
        return fallen
