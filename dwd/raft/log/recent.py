"""The newest entries of every group in memory: all that are not durable yet, and others as far as a budget goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from dwd.base.ids import GroupId
from dwd.raft.core.types import Entry
from dwd.raft.log.records import ENTRY_HEADER_BYTES


class RecentEntries:
    """For each group the end of its log, as submitted. Evicts in order of arrival, never what is not durable."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._groups: dict[GroupId, deque[Entry]] = {}
        self._arrivals: deque[tuple[GroupId, Entry, int]] = deque()

    def append(self, group: GroupId, entries: Sequence[Entry], ticket: int) -> None:
        """`ticket` numbers the submission that makes `entries` durable."""
        held = self._groups.setdefault(group, deque())
        first = entries[0].index
        if held and first > held[-1].index + 1:
            held.clear()
        while held and held[-1].index >= first:
            held.pop()
        held.extend(entries)
        for entry in entries:
            self._arrivals.append((group, entry, ticket))
            self._bytes += ENTRY_HEADER_BYTES + len(entry.payload)

    def durable(self, ticket: int) -> None:
        """Everything up to `ticket` is durable: evict down to the budget."""
        while self._bytes > self._bytes_max and self._arrivals and self._arrivals[0][2] <= ticket:
            group, entry, _ = self._arrivals.popleft()
            self._bytes -= ENTRY_HEADER_BYTES + len(entry.payload)
            held = self._groups.get(group)
            if held and held[0] is entry:
                held.popleft()

    def forget(self, group: GroupId) -> None:
        """The group's log was reset or dropped; what is left in the order of arrival ages out."""
        self._groups.pop(group, None)

    def first(self, group: GroupId) -> int | None:
        """The first index held, None if nothing is."""
        held = self._groups.get(group)
        return held[0].index if held else None

    def slice(self, group: GroupId, first: int, last: int) -> list[Entry]:
        """Entries [first, last] as far as they are held, from `first` on."""
        held = self._groups.get(group)
        if not held or first < held[0].index:
            return []
        start = first - held[0].index
        return [held[at] for at in range(start, min(len(held), last + 1 - held[0].index))]
