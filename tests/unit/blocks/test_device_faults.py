"""A device whose disk fails, fills, is remounted or taken away: what it still does, and that it loses nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dwd.base.errors import Conflict, Corrupt, DwError, NoSpace, NotFound, StorageFailed, Unavailable
from dwd.base.ids import DeviceId
from dwd.blocks.device import Device
from dwd.blocks.device_facts import DeviceOptions, DeviceState
from dwd.blocks.marker import MARKER, format_device, read_marker
from dwd.blocks.volumes.compaction import compact
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.volumes.index import IndexDamaged
from dwd.runtime.os_files import OsFiles
from dwd.runtime.testing_files import FaultyFiles
from tests.twins.manual_clock import ManualClock
from tests.twins.memory_blocks import CLUSTER, SeededRng
from tests.unit.blocks.test_device import fragment, key

SMALL = os.urandom(70_000)


@dataclass
class Rig:
    files: FaultyFiles
    path: Path
    clock: ManualClock
    pool: ThreadPoolExecutor
    failures: list[tuple[DeviceId, DwError]]

    async def open(self) -> Device:
        device = Device(
            files=self.files, path=self.path, marker=read_marker(self.files, self.path, CLUSTER), pool=self.pool,
            clock=self.clock, on_failed=lambda device, error: self.failures.append((device, error)),
            options=DeviceOptions(
                volume_bytes=1 << 20, allocate_bytes=1 << 17, reserve_share=0.0, scratch=self.path.parent / "scratch"
            ),
        )  # fmt: skip
        await device.open()
        return device


@asynccontextmanager
async def rig(tmp_path: Path) -> AsyncIterator[tuple[Rig, Device]]:
    files = FaultyFiles(OsFiles())
    format_device(files, tmp_path / "d", CLUSTER, SeededRng(1))
    with ThreadPoolExecutor(2) as pool:
        made = Rig(files, tmp_path / "d", ManualClock(), pool, [])
        device = await made.open()
        try:
            yield made, device
        finally:
            await device.close()


async def put(device: Device, *numbers: int, data: bytes = SMALL) -> None:
    await device.put([fragment(device, number, data) for number in numbers])


async def holds(device: Device, *numbers: int) -> bool:
    return all([bytes((await device.get(key(n), 0, 1 << 20)).content) == SMALL for n in numbers])


@pytest.mark.parametrize("failing", ["sync", "write"])
async def test_a_device_is_out_for_good_when_a_write_fails(tmp_path: Path, failing: str) -> None:
    async with rig(tmp_path) as (made, device):
        await put(device, 1)
        made.files.sync_fails, made.files.failing_writes = failing == "sync", int(failing == "write")
        with pytest.raises(StorageFailed):
            await put(device, 2)
        made.files.sync_fails = False
        assert device.state is DeviceState.FAILED
        assert made.failures
        for attempt in (put(device, 3), device.delete([key(1)]), device.get(key(1), 0, 1)):
            with pytest.raises(StorageFailed):
                await attempt
        assert not await device.may_return()
        with pytest.raises(Conflict):
            await device.reopen()
        await device.close()
        again = await made.open()
        assert await holds(again, 1)
        await again.close()


async def test_the_rest_is_served_when_a_sector_cannot_be_read(tmp_path: Path) -> None:
    async with rig(tmp_path) as (made, device):
        await put(device, 1)
        await put(device, 2)
        place = device.volumes.place_of(key(1))
        assert place is not None
        volume = device.volumes.policy.path(place.segment)
        made.files.failing_ranges[volume] = (place.offset + 66_000, place.offset + 66_001)
        for _ in range(5):
            with pytest.raises(Corrupt):
                await device.get(key(1), 0, 1 << 20)
            assert len((await device.get(key(1), 0, 10)).content) == 10  # its first page lies elsewhere
        assert await holds(device, 2)
        assert (device.state, device.errors) == (DeviceState.OPEN, 5)


async def test_reads_go_on_when_the_file_system_becomes_read_only(tmp_path: Path) -> None:
    async with rig(tmp_path) as (made, device):
        await put(device, 1, 2)
        made.files.read_only = True
        with pytest.raises(StorageFailed):
            await put(device, 3)
        assert device.state is DeviceState.READ_ONLY
        assert await holds(device, 1, 2)
        with pytest.raises(StorageFailed):
            await device.delete([key(1)])
        assert not await device.may_return()
        made.files.read_only = False
        assert await device.may_return()
        await device.reopen()
        await put(device, 3)
        assert await holds(device, 1, 2, 3)
        assert device.state is DeviceState.OPEN


async def test_a_device_is_read_when_it_is_opened_on_a_read_only_file_system(tmp_path: Path) -> None:
    async with rig(tmp_path) as (made, opened):
        device = opened
        await put(device, 1, 2)
        await device.delete([key(2)])
        await device.close()
        made.files.read_only = True
        before = {p: p.read_bytes() for p in made.path.rglob("*") if p.is_file()}
        again = await made.open()
        assert again.state is DeviceState.READ_ONLY
        assert await holds(again, 1)
        assert [h.key for h in await again.held([key(1).block, key(2).block], verify=True)] == [key(1)]
        with pytest.raises(StorageFailed):
            await put(again, 3)
        await again.close()
        assert {p: p.read_bytes() for p in made.path.rglob("*") if p.is_file()} == before
        made.files.read_only = False
        device = await made.open()
        await put(device, 3)
        assert await holds(device, 1, 3)
        await device.close()


async def test_nothing_is_acknowledged_when_the_directory_was_removed(tmp_path: Path) -> None:
    async with rig(tmp_path) as (made, device):
        await put(device, 1)
        shutil.rmtree(made.path)
        with pytest.raises(StorageFailed):
            await put(device, 2)
        assert device.state is DeviceState.FAILED
        assert not made.path.exists()


async def test_the_device_is_out_until_its_directory_is_back(tmp_path: Path) -> None:
    async with rig(tmp_path) as (made, device):
        await put(device, 1)
        made.path.rename(tmp_path / "away")
        made.path.mkdir()  # as a mount point is without its disk
        made.clock.advance(10)
        await device.check()
        assert device.state is DeviceState.FAILED
        with pytest.raises(StorageFailed):
            await put(device, 2)
        assert list(made.path.iterdir()) == []
        assert not await device.may_return()
        made.path.rmdir()
        (tmp_path / "away").rename(made.path)
        assert await device.may_return()
        await device.reopen()
        await put(device, 2)
        assert await holds(device, 1, 2)


async def test_the_device_is_out_when_another_one_lies_in_its_place(tmp_path: Path) -> None:
    async with rig(tmp_path) as (made, device):
        (made.path / MARKER).unlink()
        made.path.rename(tmp_path / "away")
        format_device(made.files, made.path, CLUSTER, SeededRng(9))
        made.clock.advance(10)
        await device.check()
        assert device.state is DeviceState.FAILED
        assert not await device.may_return()


@pytest.mark.parametrize("space", [0, 1, 50_000, 80_000, 150_000, 300_000])
async def test_reads_and_deletes_go_on_when_the_disk_is_full_at_any_step(tmp_path: Path, space: int) -> None:
    async with rig(tmp_path) as (made, device):
        await put(device, 1, 2)
        made.files.space_bytes = space
        stored, refused = [1, 2], False
        for number in range(3, 30):
            try:
                await put(device, number)
                stored.append(number)
            except NoSpace:
                refused = True
                break
        assert refused
        assert device.state is DeviceState.OPEN
        assert await holds(device, *stored)
        made.files.space_bytes = 8192  # what the reserve is for
        await device.delete([key(1)])
        made.files.space_bytes = None
        await put(device, 50)
        await device.close()
        (made.path / "index.sqlite").unlink()
        again = await made.open()
        assert await holds(again, *stored[1:], 50)
        assert [h.key for h in await again.held([key(1).block], verify=False)] == []
        assert not again.lost_places - 1, "a refused write left something that looks like damage"
        await again.close()


async def test_what_was_acknowledged_is_there_when_the_machine_stops_at_any_step(tmp_path: Path) -> None:
    for steps in range(24):
        async with rig(tmp_path / str(steps)) as (made, device):
            stored, gone = [], []
            made.files.steps = steps
            try:
                for number in range(1, 6):
                    await put(device, number)
                    stored.append(number)
                    if number % 2 == 0:
                        await device.delete([key(number)])
                        gone.append(number)
            except DwError:
                pass
            await device.close()
            made.files.steps, made.files.dead = None, False
            again = await made.open()
            assert await holds(again, *(n for n in stored if n not in gone and n % 2)), steps
            assert [h.key for h in await again.held([key(n).block for n in gone], verify=False)] == [], steps
            await again.close()


async def test_the_index_is_made_anew_when_a_page_of_it_proves_damaged_in_use(tmp_path: Path) -> None:
    async with rig(tmp_path) as (made, opened):
        device = opened
        for first in range(0, 300, 50):
            await device.put([fragment(device, n, b"x%d" % n) for n in range(first, first + 50)])
        await device.close()
        index = made.path / "index.sqlite"
        with sqlite3.connect(index) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = bytearray(index.read_bytes())
        content[8192:] = b"\xa5" * (len(content) - 8192)
        index.write_bytes(content)
        device = await made.open()
        damaged = 0
        for n in range(300):
            if device.state is DeviceState.OPEN:
                try:
                    assert bytes((await device.get(key(n), 0, 99)).content) == b"x%d" % n
                except IndexDamaged:
                    damaged += 1
        if damaged:
            assert device.state is DeviceState.REBUILDING
            with pytest.raises(Unavailable):
                await device.get(key(1), 0, 1)
            assert await device.may_return()
            await device.reopen()
        assert device.lost_places or damaged
        for n in range(300):
            assert bytes((await device.get(key(n), 0, 99)).content) == b"x%d" % n
        await device.close()


@pytest.mark.parametrize("step", [997, pytest.param(16, marks=pytest.mark.campaign)])
async def test_nothing_wrong_is_read_when_bytes_of_the_index_flip(tmp_path: Path, step: int) -> None:
    async with rig(tmp_path) as (made, opened):
        device = opened
        await device.put([fragment(device, n, b"x%d" % n) for n in range(40)])
        await device.close()
        index = made.path / "index.sqlite"
        with sqlite3.connect(index) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sound = index.read_bytes()
        for at in (*range(0, 100, 10), *range(100, len(sound), step)):
            for left in made.path.glob("index.sqlite*"):
                left.unlink()
            content = bytearray(sound)
            content[at] ^= 0x41
            index.write_bytes(content)
            device = await made.open()
            for n in range(40):
                try:
                    assert bytes((await device.get(key(n), 0, 99)).content) == b"x%d" % n, at
                except (NotFound, Corrupt, IndexDamaged, Unavailable):
                    continue  # lost from the index: a scrub tells, or whoever wants it
            if device.state is DeviceState.REBUILDING:
                await device.reopen()
                for n in range(40):
                    assert bytes((await device.get(key(n), 0, 99)).content) == b"x%d" % n, at
            await device.close()


@pytest.mark.parametrize("age", ["deleted", "older"])
async def test_the_index_catches_up_when_it_is_gone_or_older_than_the_volumes(tmp_path: Path, age: str) -> None:
    async with rig(tmp_path) as (made, opened):
        device = opened
        await put(device, 1, 2)
        await device.close()
        old = (made.path / "index.sqlite").read_bytes()
        device = await made.open()
        await put(device, 3)
        await device.delete([key(1)])
        await device.close()
        for left in made.path.glob("index.sqlite*"):
            left.unlink()
        if age == "older":
            (made.path / "index.sqlite").write_bytes(old)
        device = await made.open()
        assert await holds(device, 2, 3)
        assert [h.key for h in await device.held([key(1).block], verify=False)] == []
        await device.close()


async def test_sound_fragments_are_kept_and_bad_ones_told_of_when_a_damaged_volume_is_compacted(tmp_path: Path) -> None:
    async with rig(tmp_path) as (made, device):
        await put(device, 1, 2, 3)
        await put(device, 4)
        for number in range(5, 25):
            await put(device, number)
        places = {n: device.volumes.place_of(key(n)) for n in range(1, 5)}
        for number, inside in ((2, 30_000), (4, -20)):  # the bytes of one, the head of the batch of another
            place = places[number]
            assert place is not None
            assert place.segment == 1
            with device.volumes.policy.path(1).open("r+b") as file:
                file.seek(place.offset + inside)
                byte = file.read(1)
                file.seek(place.offset + inside)
                file.write(bytes([byte[0] ^ 1]))
        bad: list[FragmentKey] = []
        await compact(device.volumes, 1, lambda found, _cause: bad.append(found))
        assert bad == [key(2)]
        assert await holds(device, 1, *range(3, 25))
        assert [h.key for h in await device.held([key(2).block], verify=False)] == []
        assert not device.volumes.policy.path(1).exists()
        await device.close()
        again = await made.open()
        assert again.lost_places == 0
        assert await holds(again, 1, *range(3, 25))
        await again.close()
