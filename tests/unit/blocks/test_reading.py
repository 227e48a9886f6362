"""What reads leave behind, and how they treat sources that are busy or unknown."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dwd.base.errors import Busy, DwError
from dwd.base.ids import LayoutEpoch, NodeId
from dwd.base.policy import Policy
from dwd.blocks.core.breaker import FAILURES_MAX
from dwd.blocks.fragments import Fetched
from dwd.blocks.ports import Owner
from tests.twins.memory_blocks import MemoryCluster

OWNER = Owner(bucket="b", key="k")
BIG = os.urandom(600_001)


async def test_no_request_counts_as_under_way_when_its_reader_left_at_any_moment(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        store = cluster.stores[NodeId(1)]
        block = await store.write(BIG, policy=Policy(profile="rs-4-2"), owner=OWNER, deadline=cluster.soon)
        for steps in range(40):
            reading = asyncio.ensure_future(  # noqa: TID251
                store.read(block, owner=OWNER, offset=0, length=len(BIG), deadline=cluster.soon)
            )
            for _ in range(steps):
                await asyncio.sleep(0.0002)
            reading.cancel()
            await asyncio.wait({reading})
            assert not any(store.latencies.inflight(device) for device in cluster.topology.views)


async def test_a_busy_device_is_not_taken_for_a_broken_one_when_it_refuses_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        store = cluster.stores[NodeId(1)]
        block = await store.write(BIG, policy=Policy(profile="rs-4-2"), owner=OWNER, deadline=cluster.soon)

        async def busy(*_: object, **__: object) -> None:
            raise Busy("blocks.busy", "too many")

        with monkeypatch.context() as patch:
            patch.setattr(cluster.wire, "get", busy)
            for _ in range(FAILURES_MAX + 1):
                with pytest.raises(DwError):
                    await store.read(block, owner=OWNER, offset=0, length=len(BIG), deadline=cluster.soon)
        assert all(store.latencies.usable(device) for device in cluster.topology.views)


async def test_a_read_waits_when_the_layout_of_its_block_is_not_known_yet(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        store = cluster.stores[NodeId(1)]
        block = await store.write(BIG, policy=Policy(profile="rs-4-2"), owner=OWNER, deadline=cluster.soon)
        layout = cluster.topology.layouts.pop()
        early = asyncio.ensure_future(  # noqa: TID251
            store.read(block, owner=OWNER, offset=0, length=len(BIG), deadline=cluster.soon)
        )
        await asyncio.sleep(0.01)
        assert not early.done()
        cluster.topology.layouts.append(layout)
        assert b"".join(await asyncio.wait_for(early, 10)) == BIG
        unknown = replace(block, layout_epoch=LayoutEpoch(99))
        with pytest.raises(DwError):
            await store.read(unknown, owner=OWNER, offset=0, length=9, deadline=cluster.clock.monotonic() + 0.1)


async def test_a_fragment_cut_short_on_its_way_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        store = cluster.stores[NodeId(1)]
        block = await store.write(BIG, policy=Policy(profile="rs-4-2"), owner=OWNER, deadline=cluster.soon)
        whole = cluster.wire.get

        async def short(node: NodeId, *args: Any, **more: Any) -> Fetched:
            got = await whole(node, *args, **more)
            return got if node != NodeId(3) else replace(got, content=got.content[:-1])

        monkeypatch.setattr(cluster.wire, "get", short)
        for offset in range(0, len(BIG), 75_000):
            views = await store.read(block, owner=OWNER, offset=offset, length=50_000, deadline=cluster.soon)
            assert b"".join(views) == BIG[offset : offset + 50_000]
