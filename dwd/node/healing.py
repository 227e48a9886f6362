"""What heals the blocks of the shards this node leads: walk, queue, repairs, ledger and pace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dwd.base.clock import Clock
from dwd.blocks.core.heal_settings import PACE_SETTING, parse_pace
from dwd.blocks.fragments import FragmentRouter, Purpose
from dwd.blocks.heal_queue import HealQueue
from dwd.blocks.healing import HealParts
from dwd.blocks.ledger import Ledger
from dwd.blocks.presence import Presence
from dwd.blocks.recount import Recount
from dwd.blocks.reencode import Reencoder
from dwd.blocks.repair import Repairer
from dwd.blocks.repair_worker import RepairWorker
from dwd.blocks.store import ErasureBlockStore
from dwd.blocks.topology import Topology
from dwd.blocks.walker import Walker
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.view import ControlView
from dwd.node.storage import Storage
from dwd.node.surroundings import Surroundings
from dwd.observability import metrics


@asynccontextmanager
async def open_healing(
    around: Surroundings,
    storage: Storage,
    topology: Topology,
    store: ErasureBlockStore,
    router: FragmentRouter,
    catalogue: BlockCatalogue,
) -> AsyncIterator[HealParts]:
    """Raises StorageFailed: the ledger cannot be opened."""
    settings, clock = around.settings, around.clock
    dead_after_ms = int(settings.blocks.dead_after_seconds * 1000)
    ledger = Ledger(around.paths.heal_ledger, vfs=around.vfs)
    try:
        queue = HealQueue(clock)
        recount = Recount(topology=topology, fragments=router, clock=clock)
        walker = Walker(
            catalogue=catalogue,
            topology=topology,
            queue=queue,
            presence=Presence(recount=recount, catalogue=catalogue, topology=topology, clock=clock),
            clock=clock,
            dead_after_ms=dead_after_ms,
        )
        repairer = Repairer(
            topology=topology,
            fragments=router,
            readers={purpose: store.repair_reader(purpose) for purpose in (Purpose.REPAIR, Purpose.URGENT)},
            anew=Reencoder(store),
            catalogue=catalogue,
            clock=clock,
            dead_after_ms=dead_after_ms,
        )
        worker = RepairWorker(
            repairer=repairer,
            catalogue=catalogue,
            queue=queue,
            walker=walker,
            ledger=ledger,
            clock=clock,
            at_once=settings.repair.concurrent_blocks,
        )
        _measure(walker, queue, clock)
        storage.fragments.pacing.ceiling = float(settings.repair.bytes_per_second)
        yield HealParts(walker=walker, worker=worker, queue=queue, ledger=ledger, pacing=storage.fragments.pacing)
    finally:
        ledger.flush(ledger.take(), clock.unix_ms())
        ledger.close()


def _measure(walker: Walker, queue: HealQueue, clock: Clock) -> None:
    """What dashboards watch, of the shards led here."""

    def age() -> float:
        oldest = min(walker.counting().exposed.values(), default=0)
        return max(0.0, (clock.unix_ms() - oldest) / 1000) if oldest else 0.0

    def todo() -> list[tuple[float, dict[str, str | int]]]:
        return [(float(a.bytes), {"urgency": u.name.lower()}) for u, a in walker.counting().todo.items()]

    metrics.gauge("dwd.blocks.exposed.age", "Age of the oldest block that is one loss from unreadable", "s", age)
    metrics.gauge("dwd.blocks.heal.todo", "Bytes of fragments to be written, by urgency", "By", todo)
    metrics.gauge("dwd.blocks.heal.parked", "Blocks that could not be healed", "{block}", lambda: len(queue.parked))


def follow_pace(view: ControlView, storage: Storage) -> None:
    """The pace that operators set, from now on, on this node's devices."""

    def follow() -> None:
        topology = view.topology_or_none()
        if topology is not None:
            storage.fragments.pacing.fixed = parse_pace(topology.setting(PACE_SETTING))

    view.watch(follow)
    follow()
