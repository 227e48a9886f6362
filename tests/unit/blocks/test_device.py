"""Volumes and devices across stops of every kind."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import AlreadyExists, Conflict, Corrupt, DwError, NoSpace, NotFound, StorageFailed, VersionRefused
from dwd.base.ids import BlockId, ClusterId, LayoutEpoch, NodeId
from dwd.blocks.core.profiles import parse_profile
from dwd.blocks.device import READ_ERRORS_MAX, Device
from dwd.blocks.device_facts import DeviceState
from dwd.blocks.fence import FENCE_FILE
from dwd.blocks.fragments import Purpose, PutFragment
from dwd.blocks.marker import format_device, read_marker
from dwd.blocks.ports import Owner
from dwd.blocks.volumes.compaction import compact, sparse_volume
from dwd.blocks.volumes.fragment import FragmentKey, encode_head, page_checksums
from dwd.runtime.os_files import OsFiles
from tests.twins.memory_blocks import CLUSTER, MemoryCluster, SeededRng

DATA = os.urandom(200_000)


def key(number: int) -> FragmentKey:
    return FragmentKey(BlockId(number.to_bytes(16)), number % 6)


def fragment(device: Device, number: int, data: bytes = DATA, epoch: int = 1) -> PutFragment:
    head = encode_head(
        key=key(number), profile=parse_profile("rs-4-2"), block_length=4 * len(data), block_crc32c=7, length=len(data),
        partition=0, layout_epoch=LayoutEpoch(epoch), owner=Owner(bucket="b", key="ключ"), pages=page_checksums(data),
    )  # fmt: skip
    return PutFragment(
        device=device.id, key=key(number), layout_epoch=LayoutEpoch(epoch), head=head, content=memoryview(data)
    )


async def only_device(cluster: MemoryCluster) -> Device:
    return cluster.wire.services[NodeId(1)].devices()[0]


async def reopened(cluster: MemoryCluster, device: Device) -> Device:
    cluster.wire.services[NodeId(1)].remove(device.id)
    again = await cluster.open_device(device.path)
    cluster.wire.services[NodeId(1)].add(again)
    return again


async def test_fragments_survive_when_the_device_is_closed_and_opened(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        await device.put([fragment(device, n) for n in range(5)])
        await device.delete([key(2)])
        await device.close()
        device = await reopened(cluster, device)
        got = await device.get(key(3), 70_000, 100)
        assert bytes(got.content) == DATA[70_000:70_100]
        assert got.head.owner.key == "ключ"
        with pytest.raises(NotFound):
            await device.get(key(2), 0, 1)


@pytest.mark.parametrize("loss", ["index", "tail", "garbage-index"])
async def test_the_index_is_rebuilt_when_it_is_lost_or_old(tmp_path: Path, loss: str) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        await device.put([fragment(device, n) for n in range(3)])
        await device.volumes.flush()
        await device.put([fragment(device, 3)])
        await device.delete([key(1)])
        device.volumes._overlay.clear()  # as a crash would: nothing more reaches the index
        device.volumes._tail = None
        device.volumes.flush = _nothing  # type: ignore[method-assign]
        await device.close()
        for suffix in ("", "-wal", "-shm") if loss != "tail" else ():
            path = device.path / f"index.sqlite{suffix}"
            path.unlink(missing_ok=True)
        if loss == "garbage-index":
            (device.path / "index.sqlite").write_bytes(b"garbage" * 1000)
        device = await reopened(cluster, device)
        held = await device.held([key(n).block for n in range(4)], verify=True)
        assert [h.key for h in held] == [key(0), key(2), key(3)]
        assert all(h.sound for h in held)


async def _nothing() -> None:
    return None


async def test_the_torn_end_is_cut_and_the_rest_kept_when_power_went(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        await device.put([fragment(device, 0)])
        await device.put([fragment(device, 1)])
        place = device.volumes.place_of(key(1))
        assert place is not None
        volume = device.volumes.policy.path(place.segment)
        device.volumes.flush = _nothing  # type: ignore[method-assign]
        await device.close()
        with volume.open("r+b") as file:
            file.seek(place.offset + 100_000)
            file.write(bytes(50_000))
        device = await reopened(cluster, device)
        assert bytes((await device.get(key(0), 0, 1 << 20)).content) == DATA
        with pytest.raises(NotFound):
            await device.get(key(1), 0, 1)
        await device.put([fragment(device, 2, DATA[:100])])
        (device.path / "index.sqlite").unlink()
        device.volumes.flush = _nothing  # type: ignore[method-assign]
        await device.close()
        with volume.open("rb") as file:
            torn = file.read().find(DATA[50_000:50_100], place.offset)
        assert torn == -1
        device = await reopened(cluster, device)
        assert bytes((await device.get(key(2), 0, 1 << 20)).content) == DATA[:100]


async def test_space_comes_back_and_nothing_is_lost_when_volumes_are_compacted(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1, volume_bytes=1 << 20) as cluster:
        device = await only_device(cluster)
        for n in range(20):
            await device.put([fragment(device, n)])
        await device.delete([key(n) for n in range(20) if n % 4])
        before = len(list((device.path / "volumes").iterdir()))
        while (segment := await sparse_volume(device.volumes)) is not None:
            await compact(device.volumes, segment)
        assert len(list((device.path / "volumes").iterdir())) < before
        for wiped in (False, True):
            await device.close()
            if wiped:
                (device.path / "index.sqlite").unlink()
            device = await reopened(cluster, device)
            for n in range(20):
                if n % 4 == 0:
                    assert bytes((await device.get(key(n), 0, 1 << 20)).content) == DATA
                else:
                    with pytest.raises(NotFound):
                        await device.get(key(n), 0, 1)


async def test_deleted_fragments_stay_gone_when_the_volume_of_their_tombstone_is_compacted(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1, volume_bytes=1 << 20) as cluster:
        device = await only_device(cluster)
        for n in range(8):
            await device.put([fragment(device, n)])
        first, last = device.volumes.place_of(key(0)), device.volumes.place_of(key(7))
        assert first is not None
        assert last is not None
        assert first.segment < last.segment
        await device.delete([key(0), *(key(n) for n in range(4, 8))])
        for n in range(10, 15):
            await device.put([fragment(device, n)])
        await compact(device.volumes, last.segment)
        await device.close()
        (device.path / "index.sqlite").unlink()
        device = await reopened(cluster, device)
        with pytest.raises(NotFound):
            await device.get(key(0), 0, 1)
        assert bytes((await device.get(key(12), 0, 1 << 20)).content) == DATA


async def test_writes_are_refused_when_their_layout_is_below_the_fence_also_after_a_restart(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        await device.put([fragment(device, 1, epoch=1)])
        device.fence.raise_to(LayoutEpoch(3))
        for _ in range(2):
            with pytest.raises(Conflict) as refused:
                await device.put([fragment(device, 2, epoch=2)])
            assert refused.value.code == "blocks.layout_fenced"
            await device.put([fragment(device, 3, epoch=3)])
            assert (await device.get(key(1), 0, 10)).content == DATA[:10]
            await device.close()
            device = await reopened(cluster, device)
        device.fence.raise_to(LayoutEpoch(2))
        assert device.fence.epoch == 3


async def test_a_damaged_fence_counts_as_none(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        await device.close()
        (device.path / FENCE_FILE).write_bytes(b"{")
        device = await reopened(cluster, device)
        assert device.fence.epoch == 0


async def test_the_device_leaves_service_when_the_disk_gives_errors(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        await device.put([fragment(device, n) for n in range(READ_ERRORS_MAX)])

        def broken(*_: object) -> bytes:
            raise StorageFailed("storage.failed", "EIO while reading")

        with device.volumes.open_files.reading(1) as file:
            file.read_at = broken  # type: ignore[method-assign]
        for n in range(READ_ERRORS_MAX - 1):
            for _ in range(3):
                with pytest.raises(Corrupt):
                    await device.get(key(n), 0, 1)
        assert device.state is DeviceState.OPEN
        with pytest.raises(StorageFailed):
            await device.get(key(READ_ERRORS_MAX - 1), 0, 1)
        assert device.state is DeviceState.FAILED
        assert [d for d, _ in cluster.failures] == [device.id]
        with pytest.raises(StorageFailed):
            await device.put([fragment(device, 1)])


async def test_a_second_daemon_is_refused_when_the_device_is_in_use(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        with pytest.raises(Conflict):
            await cluster.open_device(device.path)


def test_markers_are_refused_when_cluster_format_or_content_differ(tmp_path: Path) -> None:
    files, rng = OsFiles(), SeededRng(3)
    marker = format_device(files, tmp_path / "d", CLUSTER, rng)
    assert read_marker(files, tmp_path / "d", CLUSTER) == marker
    with pytest.raises(VersionRefused):
        read_marker(files, tmp_path / "d", ClusterId("d" * 32))
    with pytest.raises(AlreadyExists):
        format_device(files, tmp_path / "d", CLUSTER, rng)
    path = tmp_path / "d" / "dwd-device.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(VersionRefused):
        read_marker(files, tmp_path / "d", CLUSTER)
    path.write_text("{")
    with pytest.raises(DwError):
        read_marker(files, tmp_path / "d", CLUSTER)
    with pytest.raises(StorageFailed):
        read_marker(files, tmp_path / "nowhere", CLUSTER)


async def test_a_read_finds_its_fragment_when_compaction_moves_it_meanwhile(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1, volume_bytes=1 << 25) as cluster:
        device = await only_device(cluster)
        for n in range(0, 200, 10):
            await device.put([fragment(device, number) for number in range(n, n + 10)])
        await device.delete([key(n) for n in range(1, 200)])
        place = device.volumes.place_of(key(0))
        assert place is not None
        assert place.segment < device.volumes.tail.segment

        queued: list[tuple[object, asyncio.Future[object]]] = []
        run = device.volumes.run

        def queue(work: object) -> asyncio.Future[object]:
            future = asyncio.get_running_loop().create_future()
            queued.append((work, future))
            return future

        device.volumes.run = queue  # type: ignore[method-assign, assignment]
        device.volumes._overlay[key(0)] = place
        reading = asyncio.ensure_future(device.get(key(0), 0, 100))  # noqa: TID251
        await asyncio.sleep(0)
        device.volumes.run = run  # type: ignore[method-assign]
        while (segment := await sparse_volume(device.volumes)) is not None:
            await compact(device.volumes, segment)
        assert not device.volumes.policy.path(place.segment).exists()
        for work, future in queued:
            try:
                future.set_result(work())  # type: ignore[operator]
            except DwError as error:
                future.set_exception(error)
        assert bytes((await reading).content) == DATA[:100]
        assert device.state is DeviceState.OPEN


async def test_a_volume_stays_readable_for_its_reader_when_it_is_removed(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        await device.put([fragment(device, 0)])
        volumes = device.volumes
        with volumes.open_files.reading(1) as file:
            volumes.remove(1)
            volumes.open_files.close()
            assert file.read_at(0, 8)
        with pytest.raises((OSError, StorageFailed)):
            file.read_at(0, 8)


@pytest.mark.parametrize(("share", "refused"), [(0.05, False), (0.2, True)])
async def test_writes_are_refused_when_less_than_the_reserve_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, refused: bool
) -> None:
    async with MemoryCluster(tmp_path, nodes=1) as cluster:
        device = await only_device(cluster)
        monkeypatch.setattr(type(cluster.files), "free_bytes", staticmethod(lambda _: (10, 100)))
        device._looked_at = float("-inf")
        device._reserve = share
        if refused:
            with pytest.raises(NoSpace):
                await device.put([fragment(device, 0)])
            await device.put([replace(fragment(device, 0), purpose=Purpose.REPAIR)])
        else:
            await device.put([fragment(device, 0)])
