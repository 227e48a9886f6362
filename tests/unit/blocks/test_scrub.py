"""Scrubbing: what rots is found and handed on, a pass goes on where it was, and goes as fast as it must."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dwd.base.blocks import StoredBlock
from dwd.base.ids import BlockId, DeviceId, GroupId, NodeId
from dwd.base.policy import Tier
from dwd.blocks.codec import encode
from dwd.blocks.core.profiles import parse_profile
from dwd.blocks.core.scrubbing import DAY_SECONDS, Pass, ScrubState, period_days, rate_of
from dwd.blocks.device import Device
from dwd.blocks.device_facts import DeviceState
from dwd.blocks.findings import Findings, FindingWorker
from dwd.blocks.reading import locations
from dwd.blocks.reports import Reports
from dwd.blocks.sample import odd_fragments
from dwd.blocks.scrub_worker import ScrubWorker
from dwd.blocks.scrubber import DeviceScrub
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.volumes.index import IndexDamaged
from dwd.journal.checksum import crc32c
from dwd.meta.core.shard.queries import BlockPageAnswer, FindBlocks
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.runtime.clock import SystemClock
from tests.twins.memory_blocks import MemoryCluster
from tests.unit.blocks.test_device import fragment, key, only_device

DAY_MS = int(DAY_SECONDS * 1000)


def flip(device: Device, number: int, inside: int) -> None:
    place = device.volumes.place_of(key(number))
    assert place is not None
    with device.volumes.policy.path(place.segment).open("r+b") as file:
        file.seek(place.offset + inside)
        byte = file.read(1)[0]
        file.seek(place.offset + inside)
        file.write(bytes([byte ^ 4]))


async def whole_pass(scrub: DeviceScrub) -> None:
    await scrub.begin()
    while scrub.state.current.running:
        await scrub.step()


@pytest.mark.parametrize("inside", [0, 20, 45, 300, 100_000, 199_999])
async def test_a_pass_finds_the_fragment_that_rotted_and_no_other(tmp_path: Path, inside: int) -> None:
    async with MemoryCluster(tmp_path, nodes=1, volume_bytes=1 << 20) as cluster:
        device = await only_device(cluster)
        for number in range(12):
            await device.put([fragment(device, number)])
        await device.delete([key(3)])
        findings = Findings()
        scrub = DeviceScrub(device, findings, SystemClock())
        await whole_pass(scrub)
        assert (scrub.state.last.found, scrub.state.last.fragments, len(findings)) == (0, 11, 0)
        flip(device, 7, inside)
        await whole_pass(scrub)
        assert (scrub.state.last.number, scrub.state.last.found) == (2, 1)
        (found,) = findings.first(9)
        assert (found.device, found.key) == (device.id, key(7))


async def test_a_pass_goes_on_where_it_was_when_the_daemon_restarts(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        for number in range(40):
            await device.put([fragment(device, number)])
        scrub = DeviceScrub(device, Findings(), SystemClock())
        await scrub.begin(order="job-7", full_speed=True)
        await scrub.step()
        await scrub.save()
        assert scrub.state.current.running
        again = DeviceScrub(device, Findings(), SystemClock())
        await again.load()
        assert again.state == scrub.state
        while again.state.current.running:
            await again.step()
        assert (again.state.last.fragments, again.state.last.order) == (40, "job-7")
        (device.path / "scrub.json").write_text("{")
        anew = DeviceScrub(device, Findings(), SystemClock())
        await anew.load()
        assert anew.state == ScrubState()


@pytest.mark.parametrize("lost", ["fragments", "places"])
async def test_the_index_is_rebuilt_when_a_pass_finds_that_it_lost_rows(tmp_path: Path, lost: str) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        await device.put([fragment(device, number, b"x%d" % number) for number in range(20)])
        await device.volumes.flush()
        with sqlite3.connect(device.path / "index.sqlite") as connection:
            if lost == "fragments":
                connection.execute("DELETE FROM fragments WHERE idx = 2")
            else:
                connection.execute("UPDATE volumes SET fragments = fragments + 1")
        connection.close()
        device.volumes.index._uses = None
        scrub = DeviceScrub(device, Findings(), SystemClock())
        with pytest.raises(IndexDamaged):
            await whole_pass(scrub)
        assert device.state is DeviceState.REBUILDING
        await device.reopen()
        assert len(await device.held([key(n).block for n in range(20)], verify=True)) == 20
        await whole_pass(scrub)
        assert scrub.state.last.found == 0


async def test_an_order_is_carried_out_once_and_empty_devices_wait(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device, local = await only_device(cluster), cluster.wire.services[NodeId(1)]
        worker = ScrubWorker(local=local, findings=Findings(), period_days=lambda: 7.0, clock=SystemClock())
        await worker.work()
        assert worker.states()[device.id][0] == ScrubState()
        await device.put([fragment(device, 1)])
        for _ in range(3):
            await worker.order("job-1", [device.id, DeviceId(99)], full_speed=True)
            await worker.work()
        state, _ = worker.states()[device.id]
        assert (state.last.order, state.last.number, state.last.fragments) == ("job-1", 1, 1)


@pytest.mark.parametrize(("away", "ends"), [((), 28), ((8, 16), 28), ((4, 27), 29), ((2, 100), 102)])
def test_a_pass_ends_in_time_at_the_rate_it_is_given_also_when_the_node_was_away(away: Any, ends: int) -> None:
    total, quarter_ms = 700 * (1 << 30), DAY_MS // 4
    at, done = 0, 0
    while done < total:
        if away and at == away[0]:
            at = away[1]
        current = Pass(number=1, began_ms=1, total_bytes=total, done_bytes=done)
        done += int(rate_of(current, 1 + at * quarter_ms, 7.0) * quarter_ms / 1000) + 1
        at += 1
        assert at <= ends, "it takes longer than it may"
    assert at == ends, "it hurries for no reason"


def test_a_pass_is_due_a_period_after_the_last_began_and_where_something_is_held() -> None:
    state = ScrubState()
    assert not state.is_due(DAY_MS, 7, holds=False)
    assert state.is_due(DAY_MS, 7, holds=True)
    state = state.begin(DAY_MS, 100)
    assert not state.is_due(99 * DAY_MS, 7, holds=True)
    state = state.end(2 * DAY_MS)
    assert not state.is_due(8 * DAY_MS - 1, 7, holds=True)
    assert state.is_due(8 * DAY_MS, 7, holds=True)
    assert ScrubState().begin(1, 0).end(2).is_due(3, 7, holds=True), "there is something now where nothing was"


@pytest.mark.parametrize(
    ("setting", "tier", "days"),
    [
        ("", Tier.SMB, 7), ("", Tier.HIGH_STAKES, 1), ("", Tier.HYPERSCALE, 3), ("14", Tier.HIGH_STAKES, 14),
        ("soon", Tier.SMB, 7), ("-1", Tier.SMB, 7), ("nan", Tier.SMB, 7), ("0", Tier.HYPERSCALE, 3),
    ],
)  # fmt: skip
def test_the_period_is_what_was_set_else_what_the_tier_calls_for(setting: str, tier: Tier, days: float) -> None:
    assert period_days(setting, tier) == days


class Rows:
    """The shards, with these rows."""

    def __init__(self, rows: Sequence[StoredBlock]) -> None:
        self.rows = {row.block: row for row in rows}

    def shards(self) -> tuple[GroupId, ...]:
        return (GroupId(1), GroupId(2))

    async def read_group(self, group: GroupId, query: Any, *, deadline: float) -> Any:
        assert isinstance(query, FindBlocks)
        del deadline
        found = [self.rows[block] for block in query.blocks if block in self.rows and group == GroupId(2)]
        blocks = tuple(OwnedBlock(stored=row, bucket="b", key="k") for row in found)
        return BlockPageAnswer(blocks=blocks, more=False)


async def test_bad_fragments_are_named_by_their_rows_and_those_of_nobody_deleted(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=3) as cluster:
        from tests.unit.blocks.test_store import put  # noqa: PLC0415

        block = await put(cluster, os.urandom(400_000))
        store = cluster.stores[NodeId(1)]
        index, holder = next(iter(locations(store.reader.topology, block).items()))
        device = cluster.device(holder)
        stray = FragmentKey(BlockId(bytes(16)), 0)
        await device.put([fragment(device, 0)])
        findings, reports = Findings(), Reports()
        findings.add(holder, FragmentKey(block.block, index), "scrub:blocks.page_checksum")
        findings.add(holder, key(0), "scrub:blocks.page_checksum")
        shards: Any = Rows([block])
        local = next(s for s in cluster.wire.services.values() if device in s.devices())
        await FindingWorker(
            findings=findings, local=local, reports=reports, topology=store.reader.topology, shards=shards,
            clock=cluster.clock,
        ).work()  # fmt: skip
        (report,) = reports.take(9)
        assert (report.block, report.indexes) == (block, frozenset({index}))
        assert len(findings) == 0
        assert stray == key(0)
        assert await device.held([stray.block], verify=False) == ()


@pytest.mark.parametrize("scheme", ["rs-4-2", "replica-3"])
def test_a_sample_tells_which_fragment_does_not_belong_when_each_is_sound_by_itself(scheme: str) -> None:
    profile, block = parse_profile(scheme), os.urandom(100_001)
    whole = dict(enumerate(bytes(part) for part in encode(profile, block)))
    assert odd_fragments(profile, dict(whole), len(block), crc32c(block)) == []
    for index, part in whole.items():
        odd = {**whole, index: os.urandom(len(part))}
        assert odd_fragments(profile, odd, len(block), crc32c(block)) == [index], index
    if scheme == "rs-4-2":
        three = {**whole, **{index: os.urandom(len(whole[index])) for index in (0, 2, 5)}}
        assert odd_fragments(profile, three, len(block), crc32c(block)) is None, "nobody is blamed without proof"
