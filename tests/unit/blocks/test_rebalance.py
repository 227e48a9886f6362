"""Blocks follow the newest layout: copied, read back, then removed from where they were; readers never notice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dwd.base.errors import Unavailable
from dwd.base.ids import NodeId
from dwd.blocks.core.needs import Cause, Urgency
from dwd.blocks.fragments import CopyKey
from dwd.blocks.ledger import RepairState, Wanted
from dwd.blocks.orphans import OrphanOptions, OrphanWorker
from dwd.blocks.reading import locations
from dwd.blocks.repair import Repairer
from dwd.blocks.topology import DeviceHealth
from dwd.blocks.upkeep import SweptHere
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.runtime.worker import Progress
from tests.twins.memory_blocks import MemoryCluster, NodeTopology
from tests.twins.memory_catalogue import CatalogueOwner
from tests.unit.blocks.test_healing import BIG, NODE, Heal, LaterClock


async def on(cluster: MemoryCluster, node: NodeId) -> int:
    """Fragments on a node."""
    return sum([s.fragments for s in await cluster.wire.services[node].stats()])


async def test_fragments_are_copied_as_they_are_when_a_node_joins(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        blocks = [await heal.put() for _ in range(12)]
        cluster.node_ids.append(NodeId(7))
        cluster.wire.services[NodeId(7)] = type(cluster.wire.services[NODE])(cluster.clock)
        await cluster.add_device(NodeId(7), 0)
        cluster.topology.relayout()
        await heal.heal()
        assert await heal.whole()
        assert {row.layout_epoch for row in heal.catalogue.rows.values()} == {2}
        assert await on(cluster, NodeId(7)) > 0
        assert await heal.fragments() == 12 * 6
        heal.ledger.flush(heal.ledger.take(), 0)
        entries = heal.ledger.find(Wanted())
        assert {(e.cause, e.state, e.decoded) for e in entries} == {(Cause.MOVE.value, RepairState.DONE, False)}
        assert all(len(e.read) == len(e.written) for e in entries)
        assert [await heal.get(b) for b in blocks] == [BIG] * 12


async def test_nothing_is_left_on_a_node_when_its_devices_drain(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=7) as cluster:
        heal = Heal(cluster)
        blocks = [await heal.put() for _ in range(12)]
        await heal.heal()
        before = await on(cluster, NodeId(7))
        for device in cluster.devices_of(NodeId(7)):
            cluster.topology.views[device] = _draining(cluster.topology.views[device])
        cluster.topology.relayout()
        await heal.heal()
        assert before > 0 == await on(cluster, NodeId(7))
        assert await heal.whole()
        assert [await heal.get(b) for b in blocks] == [BIG] * 12


def _draining(view: Any) -> Any:
    from dataclasses import replace  # noqa: PLC0415 - one line of a helper

    return replace(view, writable=False)


async def test_the_old_copy_stays_when_the_new_one_cannot_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MemoryCluster(tmp_path, nodes=7) as cluster:
        heal = Heal(cluster)
        blocks = [await heal.put() for _ in range(6)]
        await heal.heal()
        for device in cluster.devices_of(NodeId(7)):
            cluster.topology.views[device] = _draining(cluster.topology.views[device])
        cluster.topology.relayout()

        async def unreadable(*_: Any) -> None:
            raise Unavailable("test.unreadable", "cannot be read back")

        monkeypatch.setattr(Repairer, "_verify", unreadable)
        before = dict(heal.catalogue.rows)
        await heal.walker.work()
        await heal.repairs.work()
        moved = [b for b in blocks if heal.catalogue.rows[b.block] != before[b.block]]
        assert all(heal.catalogue.rows[b.block].handoffs == () for b in moved)
        assert heal.queue.parked
        assert [await heal.get(b) for b in blocks] == [BIG] * 6
        monkeypatch.undo()
        heal.queue.unpark()
        await heal.heal()
        assert await on(cluster, NodeId(7)) == 0


async def test_the_most_exposed_blocks_are_first_when_much_is_to_be_done(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=8) as cluster:
        heal = Heal(cluster)
        blocks = [await heal.put() for _ in range(10)]
        await heal.heal()
        exposed = blocks[7]
        held = locations(NodeTopology(cluster.topology, NODE), exposed)
        for index in (0, 1):
            await cluster.device(held[index]).delete([FragmentKey(exposed.block, index)])
        row = heal.catalogue.rows[exposed.block]
        heal.catalogue.rows[exposed.block] = type(row)(
            **{name: getattr(row, name) for name in row.__slots__} | {"missing": (0, 1)}
        )
        cluster.node_ids.append(NodeId(9))
        for device in cluster.devices_of(NodeId(8)):
            cluster.topology.views[device] = _draining(cluster.topology.views[device])
        cluster.topology.relayout()
        while await heal.walker.work() is Progress.BUSY:
            continue
        first = heal.queue.take()
        assert first is not None
        assert (first.block, first.urgency, first.margin) == (exposed.block, Urgency.EXPOSED, 0)


async def test_strays_go_after_two_answers_when_a_node_returns_late(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=7) as cluster:
        heal = Heal(cluster)
        for _ in range(10):
            await heal.put()
        cluster.kill(NodeId(7))
        for device in cluster.devices_of(NodeId(7)):
            cluster.topology.set_health(device, DeviceHealth.DOWN, since_ms=1)
        await heal.heal()
        strays = await on(cluster, NodeId(7))
        assert strays > 0
        cluster.topology.views = {
            d: (_draining(v) if v.node == NodeId(7) else v) for d, v in cluster.topology.views.items()
        }
        cluster.topology.relayout()
        cluster.revive(NodeId(7))
        await heal.heal()
        clock = LaterClock()
        worker = OrphanWorker(
            local=SweptHere(cluster.wire.services[NodeId(7)]),
            owner=CatalogueOwner(heal.catalogue),
            topology=NodeTopology(cluster.topology, NODE),
            clock=clock,
            options=OrphanOptions(grace_seconds=100.0),
        )
        clock.hours += 1
        await heal.run(worker)
        assert await on(cluster, NodeId(7)) == strays == worker.noted
        clock.hours += 1
        await heal.run(worker)
        assert await on(cluster, NodeId(7)) == 0
        assert await heal.whole()


async def test_no_stray_is_relied_on_when_a_node_returns_late(tmp_path: Path) -> None:
    """What lay there before may be under removal at this moment: every copy that a row names was written for it."""
    async with MemoryCluster(tmp_path, nodes=7) as cluster:
        heal = Heal(cluster)
        blocks = [await heal.put() for _ in range(10)]
        cluster.kill(NodeId(7))
        for device in cluster.devices_of(NodeId(7)):
            cluster.topology.set_health(device, DeviceHealth.DOWN, since_ms=1)
        await heal.heal()
        (home,) = cluster.devices_of(NodeId(7))
        device = cluster.device(home)
        strays = [CopyKey(held.key, held.copy) for held in await device.held([b.block for b in blocks], verify=False)]
        assert strays
        cluster.revive(NodeId(7))
        heal.queue.parked.clear()
        await heal.heal()
        named = {
            FragmentKey(row.block, index)
            for row in heal.catalogue.rows.values()
            for index, place in locations(NodeTopology(cluster.topology, NODE), row).items()
            if place == home
        }
        assert named == {stray.key for stray in strays}
        await device.delete_copies(strays)  # an orphan sweep that had seen them
        assert await heal.whole()


async def test_a_copy_written_since_stays_when_an_older_one_is_to_be_deleted(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        block = await heal.put()
        device = cluster.device(cluster.topology.layouts[-1].places(block.block, 6)[0])
        key = FragmentKey(block.block, 0)
        (seen,) = [h for h in await device.held([block.block], verify=False) if h.key == key]
        place = device.volumes.place_of(key)
        assert place is not None
        head, content = await device.volumes.read(key, 0, 1 << 20)
        again = device.volumes.put([(key, head.raw, content)])
        await device.delete_copies([CopyKey(key, seen.copy)])  # while the newer one is on its way
        await again
        await device.delete_copies([CopyKey(key, seen.copy)])
        await device.volumes.flush()
        await device.delete_copies([CopyKey(key, seen.copy)])
        (now,) = [h for h in await device.held([block.block], verify=True) if h.key == key]
        assert now.sound
        assert now.copy != seen.copy
        await device.delete_copies([CopyKey(key, now.copy)])
        assert not [h for h in await device.held([block.block], verify=False) if h.key == key]


async def test_leftovers_of_writes_go_but_what_repair_wrote_there_stays(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        block = await heal.put()
        places = cluster.topology.layouts[-1].places(block.block, 6)
        await cluster.device(places[0]).delete([FragmentKey(block.block, 0)])
        heal.store.reports.add(block, _owner(), 0, "missing")
        await heal.run(heal.reports)
        await heal.heal()
        assert await heal.whole()
        for index in (0, 1):
            heal.store.leftovers.add(places[index], FragmentKey(block.block, index))
        await heal.run(heal.leftovers)
        held = {h.key.index for d in places for h in await cluster.device(d).held([block.block], verify=False)}
        assert held == {0, 2, 3, 4, 5}


def _owner() -> Any:
    from tests.unit.blocks.test_healing import OWNER  # noqa: PLC0415 - one line of a helper

    return OWNER


async def test_two_leaders_do_no_harm_when_they_heal_at_once(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=7) as cluster:
        old, new = Heal(cluster), Heal(cluster)
        new.catalogue = old.catalogue
        for part in (new.walker, new.repairs, new.repairer, new.presence):
            part._catalogue = old.catalogue
        blocks = [await old.put() for _ in range(10)]
        for device in cluster.devices_of(NodeId(7)):
            cluster.topology.views[device] = _draining(cluster.topology.views[device])
        cluster.topology.relayout()
        await asyncio.gather(old.heal(), new.heal())
        assert await old.whole()
        assert [await old.get(b) for b in blocks] == [BIG] * 10
