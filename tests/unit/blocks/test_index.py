"""The index keeps its own counts right."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random  # noqa: TID251 - seeded

import pytest

from dwd.base.errors import StorageFailed
from dwd.base.ids import BlockId, NodeId
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.volumes.index import FragmentIndex, Place, VolumeUse
from tests.twins.memory_blocks import MemoryCluster

JOURNAL = b"j" * 16


def test_counts_agree_with_the_rows_whatever_was_stored_and_deleted(tmp_path: Path) -> None:
    random = Random(7)
    index = FragmentIndex(str(tmp_path / "i"), JOURNAL)
    for _ in range(40):
        keys = {FragmentKey(BlockId(random.randrange(30).to_bytes(16)), random.randrange(3)) for _ in range(9)}
        index.flush(
            [
                (key, None if random.random() < 0.4 else Place(random.randrange(1, 5), 9, 50, random.randrange(99)))
                for key in keys
            ],
            None,
        )
        kept = index.uses()
        index._uses = None
        assert kept == index.uses()
    index.clear()
    assert index.uses() == {}


def test_counts_are_taken_anew_when_a_flush_failed(tmp_path: Path) -> None:
    index = FragmentIndex(str(tmp_path / "i"), JOURNAL)
    place = Place(1, 9, 50, 10)
    index.flush([(FragmentKey(BlockId(b"a" * 16), 0), place)], None)
    with pytest.raises(StorageFailed):
        index.flush([(FragmentKey(BlockId(None), 0), place)], None)  # type: ignore[arg-type]
    assert index.uses() == {1: VolumeUse(fragments=1, bytes=60, end=69)}


async def test_figures_come_at_once_when_a_compaction_is_under_way(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        (device,) = cluster.wire.services[NodeId(1)].devices()
        async with device.volumes.maintenance:
            stats = await asyncio.wait_for(device.stats(), 5)
        assert stats.fragments == 0
