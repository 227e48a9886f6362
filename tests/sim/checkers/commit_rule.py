"""A leader commits by counting only what it wrote in its own term; what came before follows (5.4.2, figure 8)."""

from __future__ import annotations

from dwd.raft.core.effects import Effects
from dwd.raft.core.state import State
from dwd.raft.core.types import Role
from tests.sim.watching import Checker, Watch


class CommitRule(Checker):
    name = "commit rule"

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._began: dict[tuple[int, int], tuple[int, int]] = {}
        """By group and replica: the term it leads, and what it knew to be committed when it began to."""

    def effects(self, state: State, effects: Effects) -> None:
        del effects
        if state.role is not Role.LEADER:
            return
        who = (state.group, state.replica)
        term, commit = self._began.get(who, (0, 0))
        if term != state.term:
            self._began[who] = (state.term, state.commit)
        elif commit < state.commit < state.term_start:
            self.report(
                f"group {state.group}: {state.replica:x} committed {state.commit} in term {state.term}, whose entries"
                f" begin at {state.term_start}"
            )
