"""Where the fragments of one block end up when destinations are slow, silent or gone."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from dwd.base.errors import Busy
from dwd.base.ids import NodeId
from dwd.base.policy import Policy
from dwd.blocks import latency
from dwd.blocks.ports import Owner
from dwd.blocks.reading import locations
from tests.twins.memory_blocks import MemoryCluster

OWNER = Owner(bucket="b", key="k")
BIG = os.urandom(600_001)


@pytest.mark.parametrize("silent", [(5, 6), (2, 5), (3, 4)])
async def test_one_more_node_may_die_when_a_write_got_round_two_silent_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: tuple[int, int]
) -> None:
    monkeypatch.setattr(latency, "WRITE_SLOW_SECONDS_MAX", 0.05)
    monkeypatch.setattr(latency, "WRITE_SLOW_SECONDS_MIN", 0.05)
    async with MemoryCluster(tmp_path) as cluster:
        for node in silent:
            cluster.wire.stuck[NodeId(node)] = asyncio.Event()
        store = cluster.stores[NodeId(1)]
        for _ in range(4):
            block = await store.write(BIG, policy=Policy(profile="rs-4-2"), owner=OWNER, deadline=cluster.soon)
            places = locations(store.reader.topology, block).values()
            held = Counter(cluster.topology.views[device].node for device in places)
            assert not set(silent) & set(held)
            assert max(held.values()) <= 2, held


@pytest.mark.parametrize(("nodes", "devices", "stored"), [(1, 1, False), (2, 1, False), (3, 1, True), (1, 3, True)])
async def test_a_block_is_refused_when_there_are_too_few_devices_for_it_to_survive_anything(
    tmp_path: Path, nodes: int, devices: int, stored: bool
) -> None:
    async with MemoryCluster(tmp_path, nodes=nodes, devices=devices) as cluster:
        writing = cluster.stores[NodeId(1)].write(
            BIG, policy=Policy(profile="rs-4-2"), owner=OWNER, deadline=cluster.soon
        )
        if stored:
            await writing
        else:
            with pytest.raises(Busy):
                await writing
        await cluster.stores[NodeId(1)].write(BIG, policy=Policy(profile="auto"), owner=OWNER, deadline=cluster.soon)


async def test_devices_that_take_nothing_new_are_passed_over_when_a_block_is_written(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=4, devices=2) as cluster:
        store = cluster.stores[NodeId(1)]
        before = await store.write(BIG, policy=Policy(profile="rs-2-1"), owner=OWNER, deadline=cluster.soon)
        shut = {cluster.devices_of(NodeId(2))[0], *locations(store.reader.topology, before).values()}
        for device in shut:
            cluster.topology.set_writable(device, writable=False)
        for _ in range(4):
            block = await store.write(BIG, policy=Policy(profile="rs-2-1"), owner=OWNER, deadline=cluster.soon)
            assert not shut & set(locations(store.reader.topology, block).values())
        views = await store.read(before, owner=OWNER, offset=0, length=len(BIG), deadline=cluster.soon)
        assert b"".join(views) == BIG
