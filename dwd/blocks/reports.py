"""What reads and writes noticed and repair should know: bounded, in memory, one entry a block.

Losing an entry is no loss of data: metadata is the authority, and walking it finds the same. This only makes it quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dwd.base.blocks import StoredBlock
from dwd.base.ids import BlockId
from dwd.blocks.ports import Owner
from dwd.observability import metrics

REPORTS_MAX = 10_000

_DROPPED = metrics.counter("dwd.blocks.reports.dropped", "Bad fragments noticed but not noted: too many", "{block}")
_BAD = metrics.counter("dwd.blocks.bad_fragments", "Fragments found missing or wrong while reading", "{fragment}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Fragments `indexes` of a block were missing or wrong where its row says they are."""

    block: StoredBlock
    owner: Owner
    indexes: frozenset[int]
    cause: str


class Reports:
    def __init__(self, on_report: Callable[[], None] | None = None) -> None:
        self._reports: dict[BlockId, Report] = {}
        self.on_report = on_report

    def add(self, block: StoredBlock, owner: Owner, index: int, cause: str) -> None:
        _BAD.add(1, cause=cause)
        known = self._reports.get(block.block)
        if known is None and len(self._reports) >= REPORTS_MAX:
            _DROPPED.add(1)
            return
        indexes = (known.indexes if known else frozenset()) | {index}
        self._reports[block.block] = Report(block=block, owner=owner, indexes=indexes, cause=cause)
        if self.on_report is not None:
            self.on_report()

    def take(self, limit: int) -> list[Report]:
        return [self._reports.pop(block) for block in list(self._reports)[:limit]]

    def put_back(self, reports: Iterable[Report]) -> None:
        """Those that could not be handed on; what was noticed meanwhile is newer."""
        for report in reports:
            if report.block.block not in self._reports and len(self._reports) < REPORTS_MAX:
                self._reports[report.block.block] = report

    def __len__(self) -> int:
        return len(self._reports)
