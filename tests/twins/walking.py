"""A walk that only counts: no device is asked for anything."""

from __future__ import annotations

from typing import Any

from dwd.base.clock import Clock
from dwd.blocks.heal_queue import HealQueue
from dwd.blocks.repair import DEAD_AFTER_MS
from dwd.blocks.topology import Topology
from dwd.blocks.walker import Walker


class NobodyAsked:
    """Stands for `dwd.blocks.presence.Presence`."""

    def keep(self, groups: Any) -> None: ...

    def due(self, group: Any) -> dict[Any, Any]:
        return {}

    def asked(self, group: Any, devices: Any) -> None: ...

    async def check(self, group: Any, page: Any, devices: Any) -> list[Any]:
        return []


def counting_walker(catalogue: Any, topology: Topology, clock: Clock) -> Walker:
    nobody: Any = NobodyAsked()
    return Walker(
        catalogue=catalogue, topology=topology, queue=HealQueue(clock), presence=nobody, clock=clock,
        dead_after_ms=DEAD_AFTER_MS,
    )  # fmt: skip
