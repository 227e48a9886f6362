"""The sender's side of snapshots: copies that are shared, sent whole or by pages, and go away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import pytest_asyncio

from dwd.base.errors import Busy, Corrupt, NoSpace, NotFound
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId
from dwd.base.limits import CHUNK_BYTES
from dwd.base.units import MIB
from dwd.raft.core.types import EMPTY_SNAPSHOT, SnapshotMeta
from dwd.raft.options import HostOptions
from dwd.raft.snapshots import copies as copies_module
from dwd.raft.snapshots.copies import Copies
from dwd.raft.snapshots.pages import HASH_BYTES, PAGE_BYTES, RANGE_BYTES, Extent, file_digest, hash_pages
from dwd.raft.transport import SnapshotChunk, SnapshotHeader, SnapshotItem, SnapshotRequest
from dwd.runtime.clock import SystemRng
from dwd.runtime.serial import ThreadLanes
from tests.twins.manual_clock import ManualClock
from tests.twins.raft_cluster import until

CONTENT = bytes(range(256)) * (3 * MIB // 256) + b"end"


class Bench:
    def __init__(self, directory: Path, lanes: ThreadLanes) -> None:
        self.directory = directory
        self.lanes = lanes
        self.clock = ManualClock()
        self.content = CONTENT
        self.made = 0
        self.gate = threading.Event()
        self.gate.set()

    def copies(self, **options: Any) -> Copies:
        return Copies(
            self.directory, node=NodeId(9), lanes=self.lanes, clock=self.clock,
            options=replace(HostOptions(snapshot_bytes_per_second=1 << 40), **options),
            rng=SystemRng(),
        )  # fmt: skip

    def make(self, path: Path) -> SnapshotMeta:
        assert self.gate.wait(20)
        self.made += 1
        path.write_bytes(self.content)
        return replace(EMPTY_SNAPSHOT, index=LogIndex(5))

    async def take(self, copies: Copies, request: SnapshotRequest) -> tuple[SnapshotHeader, list[SnapshotChunk]]:
        async with aclosing(copies.serve(request, self.make)) as items:
            got: list[SnapshotItem] = [item async for item in items]
        header, *chunks = got
        assert isinstance(header, SnapshotHeader)
        return header, [chunk for chunk in chunks if isinstance(chunk, SnapshotChunk)]

    def files(self) -> int:
        return sum(1 for _ in self.directory.iterdir())


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    lanes = ThreadLanes(threads=2, name="test")
    yield Bench(tmp_path, lanes)
    await lanes.close()


def request(
    group: int = 1, *, token: int = 0, offset: int = 0, index_min: int = 0, length: int | None = None,
    page_hashes: bytes = b"",
) -> SnapshotRequest:  # fmt: skip
    """Ranged if there is a length."""
    return SnapshotRequest(
        group=GroupId(group), source=ReplicaId(1), target=ReplicaId(2), index_min=LogIndex(index_min),
        token=token, offset=offset, ranged=length is not None, length=length or 0, page_hashes=page_hashes,
    )  # fmt: skip


def places(chunk: SnapshotChunk) -> list[tuple[int, int]]:
    extents = chunk.extents or (Extent(offset=chunk.offset, length=len(chunk.data)),)
    return [(extent.offset, extent.length) for extent in extents]


async def test_the_whole_file_comes_in_order_when_it_is_asked_for_without_ranges(bench: Bench) -> None:
    header, chunks = await bench.take(bench.copies(), request())
    assert header.bytes_total == len(CONTENT)
    assert b"".join(chunk.data for chunk in chunks) == CONTENT
    assert [chunk.offset for chunk in chunks] == [0, CHUNK_BYTES, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES]
    assert all(chunk.crc32c == google_crc32c.value(chunk.data) and not chunk.extents for chunk in chunks)


async def test_the_same_copy_goes_on_when_a_transfer_resumes(bench: Bench) -> None:
    copies = bench.copies()
    first, _ = await bench.take(copies, request())
    again, chunks = await bench.take(copies, request(token=first.token, offset=2 * CHUNK_BYTES))
    assert (again.token, chunks[0].offset) == (first.token, 2 * CHUNK_BYTES)


async def test_only_the_header_comes_when_the_range_is_empty(bench: Bench, tmp_path: Path) -> None:
    header, chunks = await bench.take(bench.copies(), request(length=0))
    assert chunks == []
    whole = tmp_path / "whole"
    whole.write_bytes(CONTENT)
    assert header.digest == file_digest(whole, len(CONTENT))
    assert bench.files() == 2 + 1


async def test_only_the_pages_that_differ_come_when_the_receiver_tells_its_hashes(bench: Bench) -> None:
    older = bytearray(CONTENT)
    for page in (1, 2, 5, 700):
        older[page * PAGE_BYTES + 17] ^= 0x55
    older[-1] ^= 1
    header, chunks = await bench.take(bench.copies(), request(length=RANGE_BYTES, page_hashes=hash_pages(bytes(older))))
    (chunk,) = chunks
    end = 3 * MIB
    assert places(chunk) == [(4096, 8192), (5 * 4096, 4096), (700 * 4096, 4096), (end, 3)]
    assert chunk.data == b"".join(CONTENT[offset : offset + length] for offset, length in places(chunk))
    assert header.bytes_total == len(CONTENT)


async def test_all_pages_come_beyond_what_the_receiver_has_when_its_file_is_shorter(bench: Bench) -> None:
    hashes = hash_pages(CONTENT[: 2 * MIB])
    _, chunks = await bench.take(bench.copies(), request(length=RANGE_BYTES, page_hashes=hashes))
    assert [place for chunk in chunks for place in places(chunk)] == [(2 * MIB, MIB), (3 * MIB, 3)]


async def test_a_range_ends_where_it_was_asked_to_when_the_file_goes_on(bench: Bench) -> None:
    copies = bench.copies()
    header, chunks = await bench.take(copies, request(length=8192))
    assert [place for chunk in chunks for place in places(chunk)] == [(0, 8192)]
    _, chunks = await bench.take(copies, request(token=header.token, offset=8192, length=4096, page_hashes=b"x" * 16))
    assert [place for chunk in chunks for place in places(chunk)] == [(8192, 4096)]


async def test_a_message_holds_many_scattered_pages_but_no_more_than_a_chunk_when_much_differs(bench: Bench) -> None:
    own = bytearray(hash_pages(CONTENT))
    for page in range(0, len(own) // HASH_BYTES, 2):
        own[page * HASH_BYTES] ^= 1
    _, chunks = await bench.take(bench.copies(), request(length=RANGE_BYTES, page_hashes=bytes(own)))
    assert [len(chunk.data) for chunk in chunks] == [CHUNK_BYTES, MIB // 2 + 3]
    assert len(chunks[0].extents) == CHUNK_BYTES // PAGE_BYTES


@pytest.mark.parametrize(("offset", "length"), [(1, 4096), (0, RANGE_BYTES + 1)])
async def test_a_range_that_makes_no_sense_is_refused_when_asked_for(bench: Bench, offset: int, length: int) -> None:
    with pytest.raises(Corrupt):
        await bench.take(bench.copies(), request(offset=offset, length=length))


async def test_how_far_a_receiver_is_is_known_when_it_goes_from_range_to_range(bench: Bench) -> None:
    copies = bench.copies()
    header, _ = await bench.take(copies, request(length=0))
    assert copies.sending(GroupId(1), ReplicaId(2)) is not None
    same = hash_pages(CONTENT[:MIB])
    await bench.take(copies, request(token=header.token, length=MIB, page_hashes=same))
    await bench.take(copies, request(token=header.token, offset=MIB, length=MIB))
    found = copies.sending(GroupId(1), ReplicaId(2))
    assert found is not None
    assert (found.source, found.bytes_done, found.bytes_total) == (NodeId(9), 2 * MIB, len(CONTENT))
    assert found.bytes_reused == MIB
    assert copies.sending(GroupId(1), ReplicaId(3)) is None
    await bench.take(copies, request(token=header.token, offset=2 * MIB, length=2 * MIB))
    assert copies.sending(GroupId(1), ReplicaId(2)) is None


async def test_a_copy_that_nobody_receives_any_more_is_told_from_one_that_is_sent_when_logs_are_to_be_cut(
    bench: Bench,
) -> None:
    copies = bench.copies()
    header, _ = await bench.take(copies, request(length=0))
    assert copies.oldest(GroupId(1)) == copies.oldest(GroupId(1), sending=True) == 5
    await bench.take(copies, request(token=header.token, length=RANGE_BYTES))
    assert copies.oldest(GroupId(1)) == 5
    assert copies.oldest(GroupId(1), sending=True) is None
    assert copies.oldest(GroupId(2)) is None


async def test_a_copy_is_shared_when_it_is_new_enough_and_made_again_when_not(bench: Bench) -> None:
    copies = bench.copies()
    tokens = [(await bench.take(copies, request(index_min=index_min)))[0].token for index_min in (0, 5, 6)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert bench.made == 2


async def test_the_copy_is_there_for_the_next_when_the_first_to_ask_gave_up_waiting(bench: Bench) -> None:
    copies = bench.copies()
    bench.gate.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await bench.take(copies, request())
    bench.gate.set()
    await until(lambda: copies.oldest(GroupId(1)) == 5, "the copy to be finished")
    await bench.take(copies, request())
    assert bench.made == 1


async def test_not_found_when_the_copy_to_resume_is_gone(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.take(bench.copies(), request(token=77))


async def test_busy_when_all_copies_are_being_read_and_an_idle_one_goes_when_not(bench: Bench) -> None:
    copies = bench.copies(snapshot_copies_max=1)
    async with aclosing(copies.serve(request(1), bench.make)) as reading:
        await anext(reading)
        with pytest.raises(Busy):
            await bench.take(copies, request(2))
    await bench.take(copies, request(2))
    assert bench.files() == 2


async def test_a_copy_and_its_hashes_go_when_nobody_read_them_for_a_while(bench: Bench) -> None:
    copies = bench.copies()
    await bench.take(copies, request(length=0))
    bench.clock.advance(copies_module.IDLE_SECONDS)
    copies.sweep()
    assert bench.files() == 2
    bench.clock.advance(1)
    copies.sweep()
    assert bench.files() == 0
    copies.sweep()
    assert copies.sending(GroupId(1), ReplicaId(2)) is None


async def test_nothing_is_left_when_a_copy_cannot_be_made(bench: Bench) -> None:
    def fail(path: Path) -> SnapshotMeta:
        path.write_bytes(b"half")
        raise NoSpace("test.full", "told to be full")

    copies = bench.copies()
    with pytest.raises(NoSpace):
        async with aclosing(copies.serve(request(), fail)) as items:
            await anext(items)
    assert bench.files() == 0
    await bench.take(copies, request())


async def test_no_space_when_the_reserve_would_be_used(bench: Bench) -> None:
    with pytest.raises(NoSpace):
        await bench.take(bench.copies(snapshot_reserve_bytes=1 << 62), request())
