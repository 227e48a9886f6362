"""If two logs have an entry of the same index and term, they are equal up to there (figure 3): it is enough that index
and term decide the entry and the term of the one before.
"""

from __future__ import annotations

from dwd.raft.core.effects import Effects
from dwd.raft.core.state import State
from dwd.raft.core.types import EntryKind
from tests.sim.watching import Checker, Watch


class LogMatching(Checker):
    name = "log matching"

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._entries: dict[tuple[int, int, int], tuple[EntryKind, bytes, int]] = {}
        self._before: dict[tuple[int, int, int], int] = {}

    def effects(self, state: State, effects: Effects) -> None:
        if not effects.entries:
            return
        before = state.log.term_of(effects.entries[0].index - 1)
        for entry in effects.entries:
            place = (state.group, entry.index, entry.term)
            content = (entry.kind, entry.payload, entry.stamp)
            if self._entries.setdefault(place, content) != content:
                self.report(f"group {state.group}: two entries at {entry.index} of term {entry.term}")
            if before is not None and self._before.setdefault(place, before) != before:
                self.report(f"group {state.group}: what is before {entry.index} of term {entry.term} differs")
            before = entry.term
