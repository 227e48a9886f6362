"""Devices that come back with less than they left with: named in the rows without anybody reading the blocks."""

from __future__ import annotations

from pathlib import Path

from dwd.base.blocks import StoredBlock
from dwd.base.ids import DeviceId
from dwd.blocks.presence import AGAIN_SECONDS
from dwd.blocks.reading import locations
from dwd.blocks.topology import DeviceHealth
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.walker import Walker
from dwd.runtime.clock import SystemClock
from tests.twins.memory_blocks import MemoryCluster, NodeTopology
from tests.unit.blocks.test_healing import BIG, NODE, Heal


class LaterClock(SystemClock):
    """The system's clock, `late` seconds on."""

    def __init__(self) -> None:
        self.late = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.late


def presence(heal: Heal, clock: LaterClock | None = None) -> Walker:
    """A walk whose presence check goes by `clock`."""
    if clock is not None:
        heal.presence._clock = clock
    return heal.walker


async def lose(cluster: MemoryCluster, block: StoredBlock) -> tuple[int, DeviceId]:
    """Take a fragment away behind everybody's back: its index and device."""
    places = locations(NodeTopology(cluster.topology, NODE), block)
    index, device = next((i, d) for i, d in places.items() if cluster.topology.views[d].node != NODE)
    await cluster.device(device).delete([FragmentKey(block.block, index)])
    return index, device


async def test_fragment_is_named_missing_and_rebuilt_when_a_device_returns_without_it(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        worker = presence(heal)
        block = await heal.put(BIG)
        await heal.run(worker)
        assert not heal.catalogue.rows[block.block].needs_repair

        index, device = await lose(cluster, block)
        cluster.topology.set_health(device, DeviceHealth.DOWN)
        await heal.run(worker)
        assert not heal.catalogue.rows[block.block].needs_repair
        cluster.topology.set_health(device, DeviceHealth.UP)
        await heal.run(worker)
        assert heal.catalogue.rows[block.block].missing == (index,)

        await heal.heal()
        assert await heal.whole()


async def test_all_devices_are_asked_once_when_a_node_begins_to_lead(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        blocks = [await heal.put(BIG) for _ in range(3)]
        index, _ = await lose(cluster, blocks[1])
        worker = presence(heal)
        await heal.run(worker)
        assert [heal.catalogue.rows[b.block].missing for b in blocks] == [(), (index,), ()]
        before = cluster.wire.calls
        await heal.run(worker)
        assert cluster.wire.calls == before


async def test_device_is_asked_again_later_when_it_does_not_answer(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal, clock = Heal(cluster), LaterClock()
        worker = presence(heal, clock)
        block = await heal.put(BIG)
        index, device = await lose(cluster, block)
        node = cluster.topology.views[device].node
        cluster.kill(node, noticed=False)
        await heal.run(worker)
        cluster.wire.dead.discard(node)
        await heal.run(worker)
        assert not heal.catalogue.rows[block.block].needs_repair
        clock.late += AGAIN_SECONDS
        await heal.run(worker)
        assert heal.catalogue.rows[block.block].missing == (index,)
