"""The receiver's side of snapshots: only pages that differ are moved, and what went wrong is mended the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from dwd.base.errors import Corrupt, NoSpace, StorageFailed, Unavailable
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term, hex_id
from dwd.base.limits import CHUNK_BYTES
from dwd.base.units import MIB
from dwd.raft.core.messages import SnapshotOffer
from dwd.raft.core.types import EMPTY_SNAPSHOT, SnapshotMeta
from dwd.raft.options import HostOptions
from dwd.raft.replica import Replica
from dwd.raft.snapshots import transfers as transfers_module
from dwd.raft.snapshots.copies import Copies
from dwd.raft.snapshots.pages import PAGE_BYTES, RANGE_BYTES
from dwd.raft.snapshots.transfers import Transfers
from dwd.raft.transport import SnapshotChunk, SnapshotHeader, SnapshotItem, SnapshotRequest, Transport
from dwd.runtime.clock import SystemRng
from dwd.runtime.serial import ThreadLanes
from dwd.runtime.tasks import Tasks
from tests.twins.manual_clock import ManualClock
from tests.twins.raft_cluster import until

GROUP = GroupId(1)
META = replace(EMPTY_SNAPSHOT, index=LogIndex(50), term=Term(3))


def content(seed: int, size: int) -> bytearray:
    """No two pages alike."""
    return bytearray(
        b"".join(f"{seed:08d}{page:08d}".encode() * (PAGE_BYTES // 16) for page in range(size // PAGE_BYTES))
    )


class Bench:
    """A receiver (replica 2) whose own state is `own`, and a sender of `sent`; `change` may touch or replace each item
    on the way, or raise.
    """

    def __init__(self, directory: Path, lanes: ThreadLanes) -> None:
        self.options = HostOptions(
            snapshot_reserve_bytes=0, snapshot_bytes_per_second=1 << 40, snapshot_chunk_seconds=20
        )
        self.sent = content(1, 3 * MIB)
        self.own: bytearray | None = None
        self.made = 0
        self.meta = META
        self.requests: list[SnapshotRequest] = []
        self.moved = 0
        self.change: Callable[[SnapshotItem], SnapshotItem] = lambda item: item
        self.refused: list[Exception] = []
        self.fetched: list[tuple[SnapshotMeta, Path]] = []
        self.abandoned = 0
        self.failures: list[BaseException] = []
        self.clock = ManualClock()
        self.directory = directory / "receiver"
        self.lanes = lanes
        (directory / "sender").mkdir()
        self.directory.mkdir()
        self.tasks = Tasks("test", lambda name, error: self.failures.append(error))
        self.copies = Copies(
            directory / "sender", node=NodeId(1), lanes=lanes, options=self.options, clock=self.clock, rng=SystemRng()
        )
        self.transfers = self.restarted()
        self.replica = self.another(2)

    def restarted(self) -> Transfers:
        transfers = Transfers(
            self.directory, transport=cast("Transport", self), lanes=self.lanes, options=self.options,
            clock=self.clock, tasks=self.tasks, fail=lambda group, error: self.failures.append(error),
        )  # fmt: skip
        transfers.keep_remains()
        return transfers

    def another(self, replica: int) -> Replica:
        def abandoned() -> None:
            self.abandoned += 1

        machine = SimpleNamespace(copy_snapshot=self.copy_own)
        return cast(
            "Replica",
            SimpleNamespace(
                group=GROUP, id=ReplicaId(replica), closed=False, node_of=NodeId,
                names=lambda: {"group": GROUP}, applier=SimpleNamespace(machine=machine),
                snapshot_fetched=lambda meta, path: self.fetched.append((meta, path)), snapshot_abandoned=abandoned,
            ),
        )  # fmt: skip

    def copy_own(self, target: Path) -> SnapshotMeta:
        if self.own is None:
            raise Corrupt("test.damaged", "no state worth a copy")
        target.write_bytes(self.own)
        return EMPTY_SNAPSHOT

    def make(self, target: Path) -> SnapshotMeta:
        self.made += 1
        target.write_bytes(self.sent)
        return self.meta

    async def fetch_snapshot(self, node: NodeId, request: SnapshotRequest) -> AsyncGenerator[SnapshotItem, None]:
        self.requests.append(request)
        if self.refused:
            raise self.refused.pop(0)
        async with aclosing(self.copies.serve(request, self.make)) as items:
            async for item in items:
                changed = self.change(item)
                if isinstance(changed, SnapshotChunk):
                    self.moved += len(changed.data)
                yield changed

    def offer(self, source: int = 1) -> SnapshotOffer:
        return SnapshotOffer(source=ReplicaId(source), target=ReplicaId(2), term=Term(3), snapshot=META)

    async def receive(self) -> bytes:
        """The file that was handed over."""
        self.transfers.start(self.replica, self.offer())
        await until(lambda: bool(self.fetched or self.failures or self.abandoned), "the transfer to end")
        assert not self.failures
        (meta, path), *_ = self.fetched
        assert meta == self.meta
        return path.read_bytes()

    def remains(self) -> Path:
        return self.directory / f"incoming-{hex_id(GROUP)}-{hex_id(ReplicaId(2))}"


@pytest_asyncio.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(transfers_module, "BACKOFF_SECONDS", (0.001,) * transfers_module.BREAKS_MAX)
    lanes = ThreadLanes(threads=2, name="test")
    made = Bench(tmp_path, lanes)
    yield made
    await made.tasks.close()
    await lanes.close()


async def test_everything_is_moved_when_the_receiver_has_nothing(bench: Bench) -> None:
    assert await bench.receive() == bench.sent
    assert bench.moved == len(bench.sent)
    assert [(r.ranged, r.length, r.page_hashes) for r in bench.requests] == [(True, 0, b""), (True, RANGE_BYTES, b"")]


async def test_less_than_a_twentieth_is_moved_when_one_page_of_a_hundred_changed(bench: Bench) -> None:
    """The aim of the design, hashes included."""
    bench.sent = content(1, 32 * MIB)
    bench.own = bytearray(bench.sent)
    for page in range(0, len(bench.sent) // PAGE_BYTES, 100):
        bench.own[page * PAGE_BYTES + 99] ^= 0xFF
    assert await bench.receive() == bench.sent
    hashes = sum(len(request.page_hashes) for request in bench.requests)
    assert bench.moved == -(-len(bench.sent) // PAGE_BYTES // 100) * PAGE_BYTES
    assert bench.moved + hashes < len(bench.sent) / 20


@pytest.mark.parametrize("size", [5 * PAGE_BYTES, 9 * MIB])
async def test_the_file_is_the_senders_when_the_receivers_state_had_another_size(bench: Bench, size: int) -> None:
    bench.own = content(1, size)
    assert await bench.receive() == bench.sent
    assert bench.moved == max(0, len(bench.sent) - size)


async def test_progress_tells_what_was_reused_when_a_transfer_is_under_way(bench: Bench) -> None:
    bench.own = content(1, MIB)
    bench.change = lambda item: _broken_after(item, 2 * MIB)
    bench.transfers.start(bench.replica, bench.offer())
    await until(lambda: bool(bench.transfers._running) and bench.moved > 0, "something to be moved")
    await until(lambda: _at(bench) >= 2 * MIB, "it to be half way")
    found = bench.transfers.progress(GROUP)
    assert found is not None
    assert (found.source, found.bytes_total, found.bytes_reused) == (NodeId(1), len(bench.sent), MIB)
    bench.change = lambda item: item
    await until(lambda: bool(bench.fetched), "the transfer to end")
    assert bench.transfers.progress(GROUP) is None


def _at(bench: Bench) -> int:
    found = bench.transfers.progress(GROUP)
    return found.bytes_done if found is not None else 0


def _broken_after(item: SnapshotItem, offset: int) -> SnapshotItem:
    if isinstance(item, SnapshotChunk) and item.offset >= offset:
        raise Unavailable("test.break", "told to break")
    return item


async def test_nothing_is_moved_twice_when_the_stream_breaks(bench: Bench) -> None:
    broken: set[int] = set()

    def change(item: SnapshotItem) -> SnapshotItem:
        if isinstance(item, SnapshotChunk) and item.offset not in broken:
            broken.add(item.offset)
            raise Unavailable("test.break", "told to break")
        return item

    bench.change = change
    assert await bench.receive() == bench.sent
    assert bench.moved == len(bench.sent)
    assert len(bench.requests) == 2 + len(bench.sent) // CHUNK_BYTES


async def test_what_came_is_not_moved_again_when_the_copy_it_came_from_is_gone(bench: Bench) -> None:
    """Of another copy, then: of the same pages but for one."""
    seen = 0

    def change(item: SnapshotItem) -> SnapshotItem:
        nonlocal seen
        seen += isinstance(item, SnapshotChunk)
        if seen == 3:
            seen += 1
            bench.copies._copies.clear()
            bench.sent[5] ^= 1
            raise Unavailable("test.break", "told to break")
        return item

    bench.change = change
    assert await bench.receive() == bench.sent
    assert bench.made == 2
    assert bench.moved == 3 * MIB + PAGE_BYTES


async def test_another_sender_goes_on_where_the_first_stopped_when_leadership_changed(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.change = lambda item: _broken_after(item, 2 * MIB)
    bench.transfers.start(bench.replica, bench.offer(1))
    await until(lambda: _at(bench) == 2 * MIB, "it to be half way")
    bench.change = lambda item: item
    bench.transfers.start(bench.replica, bench.offer(7))
    gate.set()
    await until(lambda: bool(bench.fetched), "the transfer to end")
    assert bench.fetched[0][1].read_bytes() == bench.sent
    assert bench.requests[-1].source == 7
    assert bench.moved == len(bench.sent)


async def test_what_came_before_a_restart_is_kept_when_the_daemon_starts_again(bench: Bench) -> None:
    bench.change = lambda item: _broken_after(item, 2 * MIB)
    bench.transfers.start(bench.replica, bench.offer())
    await until(lambda: _at(bench) == 2 * MIB, "it to be half way")
    task = bench.transfers._running[GROUP].task
    assert task is not None
    task.cancel()
    await asyncio.wait([task])
    bench.change = lambda item: item
    bench.transfers = bench.restarted()
    assert await bench.receive() == bench.sent
    assert bench.moved == len(bench.sent)


async def test_pages_that_rotted_are_fetched_again_when_the_whole_does_not_hash_right(bench: Bench) -> None:
    """Its bytes are changed after the chunk's checksum was verified, as a bad disk does it."""
    written = bench.remains()
    bench.sent = content(1, 4 * MIB)

    def change(item: SnapshotItem) -> SnapshotItem:
        if isinstance(item, SnapshotChunk) and item.offset == 3 * MIB:
            with written.open("r+b") as file:
                file.seek(100_000)
                file.write(b"rot")
        return item

    bench.change = change
    assert await bench.receive() == bench.sent
    assert bench.moved == len(bench.sent) + PAGE_BYTES
    assert bench.made == 1


async def test_another_copy_is_asked_for_when_the_senders_does_not_hash_right(bench: Bench) -> None:
    def change(item: SnapshotItem) -> SnapshotItem:
        if isinstance(item, SnapshotHeader) and bench.made == 1:
            return replace(item, digest=bytes(32))
        return item

    bench.change = change
    assert await bench.receive() == bench.sent
    assert bench.made == 2
    assert max(request.index_min for request in bench.requests) == META.index + 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda item: replace(item, offset=item.offset + 1),
        lambda item: replace(item, offset=item.offset + (1 << 40)),
        lambda item: replace(item, data=b""),
        lambda item: SnapshotHeader(token=1, meta=META, bytes_total=1),
    ],
)
async def test_a_chunk_that_makes_no_sense_is_asked_for_again_when_it_comes(bench: Bench, spoil: Any) -> None:
    spoiled = 0

    def change(item: SnapshotItem) -> SnapshotItem:
        nonlocal spoiled
        if isinstance(item, SnapshotChunk) and not spoiled:
            spoiled += 1
            return cast("SnapshotItem", spoil(item))
        return item

    bench.change = change
    assert await bench.receive() == bench.sent
    assert spoiled == 1


async def test_a_chunk_is_not_written_but_asked_for_again_when_its_checksum_fails(bench: Bench) -> None:
    spoiled = 0

    def change(item: SnapshotItem) -> SnapshotItem:
        nonlocal spoiled
        if isinstance(item, SnapshotChunk) and not spoiled:
            spoiled += 1
            return replace(item, data=bytes([item.data[0] ^ 1]) + item.data[1:])
        return item

    bench.change = change
    assert await bench.receive() == bench.sent
    assert bench.moved == len(bench.sent) + CHUNK_BYTES, "the whole chunk came again, not a page at the end"


async def test_a_sender_that_knows_no_ranges_is_heard_out_when_it_sends_everything(bench: Bench) -> None:
    """A daemon of before: no digest, and chunks whether asked for a range or not."""
    old = Bench.fetch_snapshot

    async def fetch(node: NodeId, request: SnapshotRequest) -> AsyncGenerator[SnapshotItem, None]:
        asked = replace(request, ranged=False, length=0, page_hashes=b"")
        async with aclosing(old(bench, node, asked)) as items:
            async for item in items:
                yield replace(item, digest=b"") if isinstance(item, SnapshotHeader) else item

    bench.fetch_snapshot = fetch  # type: ignore[method-assign]
    bench.own = content(9, MIB)
    assert await bench.receive() == bench.sent


async def test_it_is_given_up_and_nothing_is_left_when_there_is_no_space(bench: Bench) -> None:
    bench.transfers._options = replace(bench.options, snapshot_reserve_bytes=1 << 62)
    bench.transfers.start(bench.replica, bench.offer())
    await until(lambda: bench.abandoned == 1, "it to be given up")
    assert not bench.failures
    assert list(bench.directory.iterdir()) == []


async def test_it_goes_on_when_the_senders_disk_fails_or_is_full(bench: Bench) -> None:
    bench.refused = [StorageFailed("test.disk", "the sender's"), NoSpace("test.full", "the sender's")]
    assert await bench.receive() == bench.sent


async def test_it_is_given_up_and_kept_for_later_when_the_sender_never_answers(bench: Bench) -> None:
    bench.change = lambda item: _broken_after(item, MIB)
    bench.transfers.start(bench.replica, bench.offer())
    await until(lambda: bench.abandoned == 1, "it to be given up")
    bench.transfers.sweep()
    assert bench.remains().exists()
    bench.clock.advance(transfers_module.REMAINS_SECONDS + 1)
    bench.transfers.sweep()
    assert not bench.remains().exists()


async def test_the_file_goes_when_the_replica_does(bench: Bench) -> None:
    bench.change = lambda item: _broken_after(item, MIB)
    bench.transfers.start(bench.replica, bench.offer())
    await until(lambda: _at(bench) == MIB, "a part to be there")
    bench.transfers.cancel(GROUP)
    await until(lambda: not bench.remains().exists(), "the file to be discarded")
    assert bench.transfers.progress(GROUP) is None
