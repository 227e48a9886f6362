"""Every replica applies the same entries with the same outcomes: state machine safety, and determinism of `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dwd.base.errors import DwError
from dwd.base.ids import GroupId, NodeId
from dwd.raft.core.types import Entry
from tests.sim.watching import Checker, Watch


class StateMachines(Checker):
    name = "state machines"

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.applied_at: dict[tuple[GroupId, int], tuple[int, bytes, Any]] = {}

    def applied(self, node: NodeId, group: GroupId, entries: Sequence[Entry], results: Sequence[Any]) -> None:
        for entry, result in zip(entries, results, strict=True):
            outcome = (type(result), result.code) if isinstance(result, DwError) else result
            own = (entry.term, entry.payload, outcome)
            known = self.applied_at.setdefault((group, entry.index), own)
            if known is not own and known != own:
                what = "another outcome" if known[:2] == own[:2] else "another entry"
                self.report(f"group {group}: node {node} has {what} at {entry.index}: {own!r:.300} not {known!r:.300}")
