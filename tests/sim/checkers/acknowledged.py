"""No acknowledged write is lost: where its receipt says that it took effect, every replica has it."""

from __future__ import annotations

from dwd.base.ids import GroupId, LogIndex
from tests.sim.checkers.state_machines import StateMachines
from tests.sim.watching import Checker, Watch


class Acknowledged(Checker):
    name = "acknowledged writes"

    def __init__(self, watch: Watch, machines: StateMachines) -> None:
        super().__init__(watch)
        self._machines = machines
        self.writes: list[tuple[GroupId, LogIndex, str]] = []

    def acknowledged(self, group: GroupId, index: LogIndex, value: str) -> None:
        self.writes.append((group, index, value))
        known = self._machines.applied_at.get((group, index))
        if known is None:
            self.report(f"group {group}: {value} was acknowledged at {index}, where nobody applied anything")
        elif value.encode() not in known[1]:
            self.report(f"group {group}: {value} was acknowledged at {index}, where there is another command")
