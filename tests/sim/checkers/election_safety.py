"""At most one leader a term (Ongaro & Ousterhout 2014, figure 3)."""

from __future__ import annotations

from dwd.raft.core.effects import Effects
from dwd.raft.core.state import State
from dwd.raft.core.types import Role
from tests.sim.watching import Checker, Watch


class ElectionSafety(Checker):
    name = "election safety"

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._leaders: dict[tuple[int, int], int] = {}

    def effects(self, state: State, effects: Effects) -> None:
        soft = effects.soft_state
        if soft is not None and soft.role is Role.LEADER:
            known = self._leaders.setdefault((state.group, soft.term), state.replica)
            if known != state.replica:
                self.report(f"group {state.group}: {known:x} and {state.replica:x} both lead in term {soft.term}")
