"""What repair and collection leave behind, recounted from the devices."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import DwError, StorageFailed, Unavailable
from dwd.base.ids import BlockId, GroupId, LayoutEpoch, NodeId
from dwd.base.policy import Policy
from dwd.blocks import orphans
from dwd.blocks.core.breaker import FAILURES_MAX
from dwd.blocks.fragments import CopyKey, Purpose, PutFragment
from dwd.blocks.gc import GcOptions, GcWorker, LeftoverWorker
from dwd.blocks.heal_queue import HealQueue
from dwd.blocks.ledger import Ledger
from dwd.blocks.orphans import OrphanOptions, OrphanWorker
from dwd.blocks.ports import Owner
from dwd.blocks.presence import Presence
from dwd.blocks.reading import locations
from dwd.blocks.recount import FragmentState, Recount
from dwd.blocks.reencode import Reencoder
from dwd.blocks.repair import DEAD_AFTER_MS, Outcome, Repairer
from dwd.blocks.repair_worker import RepairWorker, ReportWorker
from dwd.blocks.topology import DeviceHealth
from dwd.blocks.upkeep import SweptHere
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.walker import Walker
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.runtime.clock import SystemClock
from dwd.runtime.worker import Progress
from tests.twins.memory_blocks import MemoryCluster, NodeTopology
from tests.twins.memory_catalogue import CatalogueOwner, MemoryCatalogue

OWNER = Owner(bucket="b", key="k")
BIG = os.urandom(300_001)
NODE = NodeId(1)


class LaterClock(SystemClock):
    """`hours` ahead."""

    hours = 0

    def monotonic(self) -> float:
        return super().monotonic() + 3_600 * self.hours

    def unix_ms(self) -> int:
        return super().unix_ms() + 3_600_000 * self.hours


class Heal:
    """Repair, collection and recount of node 1 over one catalogue."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster, self.catalogue = cluster, MemoryCatalogue()
        self.store = cluster.stores[NODE]
        common = {
            "topology": NodeTopology(cluster.topology, NODE), "fragments": cluster.router(NODE), "clock": cluster.clock,
        }  # fmt: skip
        self.recounting = Recount(**common)
        readers = {purpose: self.store.repair_reader(purpose) for purpose in (Purpose.REPAIR, Purpose.URGENT)}
        self.reader = readers[Purpose.REPAIR]
        self.repairer = Repairer(**common, readers=readers, anew=Reencoder(self.store), catalogue=self.catalogue)
        self.queue, self.ledger = HealQueue(cluster.clock), Ledger(":memory:")
        self.presence = Presence(
            recount=self.recounting, catalogue=self.catalogue, topology=common["topology"], clock=cluster.clock
        )
        self.walker = Walker(
            catalogue=self.catalogue, topology=common["topology"], queue=self.queue, presence=self.presence,
            clock=cluster.clock, dead_after_ms=DEAD_AFTER_MS,
        )  # fmt: skip
        self.repairs = RepairWorker(
            repairer=self.repairer, catalogue=self.catalogue, queue=self.queue, walker=self.walker,
            ledger=self.ledger, clock=cluster.clock,
        )  # fmt: skip
        self.gc = GcWorker(**common, catalogue=self.catalogue, options=GcOptions(delay_seconds=0))
        self.leftovers = LeftoverWorker(
            leftovers=self.store.leftovers, fragments=cluster.router(NODE), clock=cluster.clock
        )
        self.reports = ReportWorker(
            reports=self.store.reports, catalogue=self.catalogue, group_of=lambda _: GroupId(1), clock=cluster.clock
        )

    async def put(self, data: bytes = BIG, profile: str = "rs-4-2"):
        block = await self.store.write(data, policy=Policy(profile=profile), owner=OWNER, deadline=self.cluster.soon)
        self.catalogue.add(block)
        return block

    async def get(self, block) -> bytes:
        row = self.catalogue.rows[block.block]
        views = await self.store.read(row, owner=OWNER, offset=0, length=1 << 23, deadline=self.cluster.soon)
        return b"".join(views)

    async def run(self, worker) -> None:
        for _ in range(50):
            if await worker.work() is Progress.IDLE:
                return
        raise AssertionError("never idle")

    async def heal(self) -> None:
        """Walk and repair until neither finds anything to do."""
        for _ in range(50):
            walked, repaired = await self.walker.work(), await self.repairs.work()
            if walked is repaired is Progress.IDLE and not len(self.queue):
                return
        raise AssertionError("never idle")

    async def whole(self) -> bool:
        rows = list(self.catalogue.rows.values())
        states = await self.recounting.recount(rows, verify=True, deadline=self.cluster.soon)
        return all(state.redundant for state in states)

    async def fragments(self) -> int:
        """On all devices."""
        count = 0
        for service in self.cluster.wire.services.values():
            count += sum([s.fragments for s in await service.stats()])
        return count


async def test_loans_go_home_when_their_devices_return(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        cluster.kill(NodeId(5))
        cluster.kill(NodeId(6))
        blocks = [await heal.put(), await heal.put(BIG[:10_000])]
        await heal.heal()
        assert not await heal.whole()
        cluster.revive(NodeId(5))
        cluster.revive(NodeId(6))
        await heal.heal()
        assert await heal.whole()
        assert await heal.fragments() == 6 + 3
        assert [await heal.get(b) for b in blocks] == [BIG, BIG[:10_000]]


async def test_reports_lead_to_repair_when_fragments_are_damaged_or_gone(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        block = await heal.put()
        places = cluster.topology.layouts[-1].places(block.block, 6)
        await cluster.device(places[0]).delete([FragmentKey(block.block, 0)])
        device = cluster.device(places[1])
        place = device.volumes.place_of(FragmentKey(block.block, 1))
        assert place is not None
        with device.volumes.policy.path(place.segment).open("r+b") as file:
            file.seek(place.offset + place.head + 70_000)
            file.write(b"rot")
        assert await heal.get(block) == BIG
        await heal.run(heal.reports)
        assert heal.catalogue.rows[block.block].missing == (0, 1)
        await heal.heal()
        assert await heal.whole()
        assert await heal.get(block) == BIG


async def test_blocks_are_rebuilt_elsewhere_when_a_device_is_lost_for_good(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=7) as cluster:
        heal = Heal(cluster)
        blocks = [await heal.put() for _ in range(20)]
        cluster.kill(NodeId(7))
        for device in cluster.devices_of(NodeId(7)):
            cluster.topology.set_health(device, DeviceHealth.LOST)
        cluster.topology.relayout()
        await heal.heal()
        assert await heal.whole()
        assert all(heal.catalogue.rows[b.block].layout_epoch == 2 or not b.needs_repair for b in blocks)
        assert [await heal.get(b) for b in blocks] == [BIG] * 20


async def test_nothing_is_moved_when_a_node_is_away_for_a_short_time(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        block = await heal.put()
        cluster.kill(NodeId(3))
        for device in cluster.devices_of(NodeId(3)):
            cluster.topology.set_health(device, DeviceHealth.DOWN, since_ms=cluster.clock.unix_ms())
        await heal.heal()
        assert heal.catalogue.rows[block.block] == block
        states = await heal.recounting.recount([block], verify=False, deadline=cluster.soon)
        assert [s for _, s in states[0].fragments].count(FragmentState.AWAY) == 1
        assert states[0].losses_left == 1


async def test_given_up_blocks_leave_nothing_when_collected(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        kept = await heal.put()
        blocks = [await heal.put() for _ in range(5)] + [await heal.put(BIG[:100])]
        for block in blocks:
            heal.catalogue.give_up(block.block)
        cluster.kill(NodeId(2))
        await heal.run(heal.gc)
        assert heal.catalogue.gc
        cluster.revive(NodeId(2))
        await heal.run(heal.gc)
        assert not heal.catalogue.gc
        assert await heal.fragments() == 6
        assert await heal.get(kept) == BIG


async def test_failed_writes_leave_nothing_when_leftovers_are_collected(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        for node in (3, 4, 5, 6):
            cluster.kill(NodeId(node), noticed=False)
        with pytest.raises(DwError):
            await heal.put()
        for node in (3, 4, 5, 6):
            cluster.revive(NodeId(node))
        await heal.run(heal.leftovers)
        assert await heal.fragments() == 0


async def test_orphans_go_only_when_disowned_twice_a_grace_apart(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        kept = await heal.put()
        orphan = await heal.store.write(BIG, policy=Policy(profile="rs-4-2"), owner=OWNER, deadline=cluster.soon)
        workers = [
            OrphanWorker(
                local=SweptHere(service), owner=CatalogueOwner(heal.catalogue), clock=cluster.clock,
                topology=NodeTopology(cluster.topology, NODE),
                options=OrphanOptions(grace_seconds=0.0),
            )
            for service in cluster.wire.services.values()
        ]  # fmt: skip
        while cluster.clock.unix_ms() <= int.from_bytes(orphan.block[:8]) >> 16:
            pass
        for worker in workers:
            await heal.run(worker)
        assert await heal.fragments() == 12
        for worker in workers:
            await heal.run(worker)
        assert await heal.fragments() == 6
        assert await heal.get(kept) == BIG


async def test_a_device_is_not_touched_when_its_marker_is_missing(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        (tmp_path / "empty").mkdir()
        with pytest.raises(StorageFailed) as refused:
            await cluster.open_device(tmp_path / "empty")
        assert refused.value.code == "blocks.device_missing"
        assert not list((tmp_path / "empty").iterdir())


async def test_repair_deletes_nothing_but_what_its_own_update_gave_up(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        cluster.kill(NodeId(5))
        block = await heal.put()
        (loan,) = block.handoffs
        cluster.revive(NodeId(5))
        (home,) = cluster.devices_of(NodeId(5))
        lender = cluster.device(loan.device)
        got = await lender.get(FragmentKey(block.block, loan.index), 0, 1 << 23)
        await cluster.device(home).put(
            [PutFragment(device=home, key=got.head.key, layout_epoch=LayoutEpoch(1), head=got.head.raw,
                         content=got.content)]
        )  # fmt: skip
        for _ in range(FAILURES_MAX):  # asked, it answers; for fragments it is left alone at this moment
            heal.reader.latencies.began(home)
            heal.reader.latencies.failed(home)
        cluster.topology.set_health(loan.device, DeviceHealth.DOWN, since_ms=cluster.clock.unix_ms())
        owned = OwnedBlock(stored=block, bucket="b", key="k")
        account = await heal.repairer.repair(GroupId(1), owned, deadline=cluster.soon)
        assert account.outcome is Outcome.WAITING
        assert await cluster.device(home).get(got.head.key, 0, 1)


async def test_a_block_is_made_whole_elsewhere_when_its_own_device_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MemoryCluster(tmp_path, nodes=7) as cluster:
        heal = Heal(cluster)
        block = await heal.put()
        full = cluster.device(cluster.topology.layouts[-1].places(block.block, 6)[2])
        await full.delete([FragmentKey(block.block, 2)])
        heal.catalogue.rows[block.block] = replace(block, missing=(2,))
        monkeypatch.setattr(
            type(cluster.files), "free_bytes", staticmethod(lambda path: (0, 100) if path == full.path else (50, 100))
        )
        full._looked_at = float("-inf")
        await heal.heal()
        row = heal.catalogue.rows[block.block]
        assert not row.missing
        assert [h.index for h in row.handoffs] == [2]
        monkeypatch.undo()
        full._looked_at = float("-inf")
        heal.queue.parked.clear()
        await heal.heal()
        assert await heal.whole()
        assert heal.catalogue.rows[block.block] == block


async def test_no_report_is_lost_when_metadata_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        blocks = [await heal.put(BIG[:1_000]) for _ in range(5)]
        for block in blocks:
            heal.store.reports.add(block, OWNER, 0, "missing")

        async def silent(*_: object, **__: object) -> None:
            raise Unavailable("meta.no_leader", "no leader")

        with monkeypatch.context() as patch:
            patch.setattr(heal.catalogue, "update_block", silent)
            with pytest.raises(Unavailable):
                await heal.reports.work()
        await heal.run(heal.reports)
        assert all(row.missing == (0,) for row in heal.catalogue.rows.values())


async def test_devices_are_asked_to_delete_once_when_another_one_is_away(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        blocks = [await heal.put(BIG[:1_000]) for _ in range(12)]
        for block in blocks:
            heal.catalogue.give_up(block.block)
        cluster.kill(NodeId(2))
        await heal.run(heal.gc)
        assert 0 < len(heal.catalogue.gc) < len(blocks)
        for service in cluster.wire.services.values():
            for device in service.devices():
                await device.volumes.flush()
        ends = {d.id: d.volumes.tail for s in cluster.wire.services.values() for d in s.devices()}
        for _ in range(3):
            await heal.run(heal.gc)
        assert ends == {d.id: d.volumes.tail for s in cluster.wire.services.values() for d in s.devices()}
        cluster.revive(NodeId(2))
        await heal.run(heal.gc)
        assert not heal.catalogue.gc
        assert await heal.fragments() == 0


async def test_orphans_are_found_when_others_that_were_noted_went_some_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "NOTED_MAX", 1)
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        orphan = await heal.store.write(BIG[:10], policy=Policy(profile="none"), owner=OWNER, deadline=cluster.soon)
        (device,) = locations(heal.repairer._topology, orphan).values()
        clock = LaterClock()
        worker = OrphanWorker(
            local=SweptHere(cluster.wire.services[cluster.topology.views[device].node]),
            owner=CatalogueOwner(heal.catalogue),
            topology=NodeTopology(cluster.topology, NODE),
            clock=clock,
            options=OrphanOptions(grace_seconds=100.0),
        )
        worker._disowned[device, CopyKey(FragmentKey(BlockId(b"x" * 16), 0), 1)] = clock.monotonic()
        for _ in range(4):
            clock.hours += 1
            await heal.run(worker)
        assert await heal.fragments() == 0


async def test_fallbacks_are_made_good_and_collected_when_their_devices_return(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        heal = Heal(cluster)
        for node in (3, 4, 5, 6):
            cluster.kill(NodeId(node))
        policy = Policy(profile="rs-4-2", allow_fallback=True)
        weak = await heal.store.write(BIG, policy=policy, owner=OWNER, deadline=cluster.soon)
        heal.catalogue.add(weak)
        await heal.heal()
        assert heal.catalogue.rows == {weak.block: weak}, "nothing to be done yet"
        assert not heal.queue.parked, "and it takes no place among what can be done"
        for node in (3, 4, 5, 6):
            cluster.revive(NodeId(node))
        await heal.heal()
        (row,) = heal.catalogue.rows.values()
        assert (row.profile, row.not_as_wanted) == ("rs-4-2", False)
        await heal.run(heal.gc)
        assert await heal.fragments() == 6
        assert await heal.get(row) == BIG
        assert await heal.whole()
