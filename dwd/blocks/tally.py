"""What a walk over the catalogue counted: how blocks stand, how much is to be done, from and to which devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dwd.base.blocks import StoredBlock
from dwd.base.ids import BlockId, DeviceId
from dwd.blocks.core.needs import Urgency, Verdict
from dwd.blocks.core.profiles import parse_scheme

EXPOSED_MAX = 10_000
"""Exposed blocks whose age is kept, the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """`degraded`: short of a fragment, or with one on loan. `at_risk`: one more node lost makes it unreadable; one more
    device where the layout never survived a node.
    """

    degraded: int = 0
    at_risk: int = 0


@dataclass(slots=True)
class Amount:
    """`bytes` of fragments that are to be written."""

    blocks: int = 0
    bytes: int = 0

    def add(self, blocks: int, size: int) -> None:
        self.blocks = max(0, self.blocks + blocks)
        self.bytes = max(0, self.bytes + size)


@dataclass(slots=True, kw_only=True)
class Counting:
    """Of one shard, or the sum over several. `todo`: what can be done now; `waiting`: degraded blocks for which nothing
    can. `outgoing` and `incoming`: fragments to be moved, by device.
    """

    blocks: int = 0
    degraded: int = 0
    at_risk: int = 0
    waiting: int = 0
    todo: dict[Urgency, Amount] = field(default_factory=dict)
    outgoing: dict[DeviceId, Amount] = field(default_factory=dict)
    incoming: dict[DeviceId, Amount] = field(default_factory=dict)
    exposed: dict[BlockId, int] = field(default_factory=dict)
    """Since when (Unix milliseconds)."""

    def count(self, row: StoredBlock, verdict: Verdict, since_ms: int) -> None:
        self.blocks += 1
        self.degraded += verdict.degraded
        self.at_risk += verdict.at_risk
        if verdict.exposed and len(self.exposed) < EXPOSED_MAX:
            self.exposed[row.block] = since_ms
        if verdict.cause is None:
            self.waiting += verdict.degraded
            return
        self._todo(row, verdict, 1)

    def healed(self, row: StoredBlock, verdict: Verdict) -> None:
        """What was counted as to be done is done."""
        self.degraded = max(0, self.degraded - verdict.degraded)
        self.at_risk = max(0, self.at_risk - verdict.at_risk)
        self.exposed.pop(row.block, None)
        self._todo(row, verdict, -1)

    def add(self, other: Counting) -> None:
        self.blocks += other.blocks
        self.degraded += other.degraded
        self.at_risk += other.at_risk
        self.waiting += other.waiting
        for mine, others in (
            (self.outgoing, other.outgoing),
            (self.incoming, other.incoming),
        ):
            for device, amount in others.items():
                mine.setdefault(device, Amount()).add(amount.blocks, amount.bytes)
        for urgency, amount in other.todo.items():
            self.todo.setdefault(urgency, Amount()).add(amount.blocks, amount.bytes)
        self.exposed.update(other.exposed)

    def _todo(self, row: StoredBlock, verdict: Verdict, sign: int) -> None:
        size = parse_scheme(row.profile).fragment_length(row.length)
        self.todo.setdefault(verdict.urgency, Amount()).add(sign, sign * size * len(verdict.moves))
        for _, source, home in verdict.moves:
            if source is not None:
                self.outgoing.setdefault(source, Amount()).add(sign, sign * size)
            self.incoming.setdefault(home, Amount()).add(sign, sign * size)


def summed(countings: Iterable[Counting]) -> Counting:
    total = Counting()
    for counting in countings:
        total.add(counting)
    return total
