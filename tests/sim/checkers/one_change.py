"""One change of the configuration at a time: a leader appends none while another of its own is not committed (thesis
4.1).
"""

from __future__ import annotations

from dwd.raft.core.effects import Effects
from dwd.raft.core.state import State
from dwd.raft.core.types import Role
from tests.sim.watching import Checker


class OneChange(Checker):
    name = "one change"

    def effects(self, state: State, effects: Effects) -> None:
        del effects
        if state.role is not Role.LEADER or state.configurations.index <= state.commit:
            return
        known = state.configurations.between(state.commit, state.log.last_index)
        open_ = [index for index, _ in known if state.log.term_of(index) == state.term]
        if len(open_) > 1:
            self.report(
                f"group {state.group}: {state.replica:x} has changes at {open_} in flight, commit {state.commit}"
            )
