"""What was committed in a term is in the log of every leader of a later one, and nothing else ever stands in its place
(figure 3: leader completeness, state machine safety).
"""

from __future__ import annotations

from dwd.raft.core.effects import Effects
from dwd.raft.core.state import State
from dwd.raft.core.types import Role
from tests.sim.watching import Checker, Watch


class LeaderCompleteness(Checker):
    name = "leader completeness"

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._committed: dict[int, dict[int, tuple[int, int]]] = {}
        """By group and index: the entry's term, and the term in which it was first seen committed."""

    def effects(self, state: State, effects: Effects) -> None:
        committed = self._committed.setdefault(state.group, {})
        for entry in effects.committed:
            term, _ = committed.setdefault(entry.index, (entry.term, state.term))
            if term != entry.term:
                self.report(f"group {state.group}: {entry.index} was committed in terms {term} and {entry.term}")
        soft = effects.soft_state
        if soft is not None and soft.role is Role.LEADER:
            self._check(state, committed)

    def _check(self, state: State, committed: dict[int, tuple[int, int]]) -> None:
        log = state.log
        for index in range(log.base.index + 1, max(committed, default=0) + 1):
            term, seen_in = committed.get(index, (0, state.term))
            if seen_in < state.term and log.term_of(index) != term:
                self.report(
                    f"group {state.group}: {state.replica:x} leads term {state.term} without {index} of term {term}"
                )
                return
