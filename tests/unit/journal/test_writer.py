"""Group commit: who shares a sync, who hears of what, and what is left after a failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from dwd.base.errors import Busy, DwError, InvalidArgument, NoSpace, StorageFailed
from dwd.base.units import KIB
from dwd.journal.frames import Position
from dwd.journal.writer import GroupCommitWriter
from dwd.runtime.testing_files import FaultyFiles, MemoryFiles
from tests.unit.journal.journals import Policy, appender, events, frame, recover


class Bench:
    """A writer over files whose sync can be held."""

    def __init__(self, **limits: int) -> None:
        self.memory = MemoryFiles()
        self.files = FaultyFiles(self.memory)
        self.policy = Policy()
        self.fatal: list[DwError] = []
        self.syncs = 0
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.files.before_sync = self._before_sync
        self.writer = GroupCommitWriter(
            appender=appender(self.files, self.policy),
            name="test",
            on_fatal=self.fatal.append,
            batch_bytes_target=limits.pop("batch_bytes_target", 32 * KIB),
            **limits,
        )

    def _before_sync(self) -> None:
        self.syncs += 1
        self.waiting.set()
        assert self.gate.wait(10)

    async def hold(self) -> asyncio.Future[Sequence[Position]]:
        """An append that hangs in its sync; everything after it queues."""
        await self.writer.append([frame(b"000")])
        self.gate.clear()
        self.waiting.clear()
        held = self.writer.submit([frame(b"001")])
        assert await asyncio.to_thread(self.waiting.wait, 10)
        return held

    def stored(self) -> list[bytes]:
        found = events(recover(self.memory))
        assert all(isinstance(e, bytes) for e in found)
        return [e for e in found if isinstance(e, bytes)]


async def test_all_that_waits_shares_one_sync_when_a_sync_is_under_way() -> None:
    bench = Bench()
    held = await bench.hold()
    before = bench.syncs
    queued = [bench.writer.submit([frame(b"%03d" % n)]) for n in range(2, 50)]
    assert not held.done()
    bench.gate.set()
    positions = await asyncio.gather(held, *queued)
    assert bench.syncs == before + 1
    assert [p[0].offset for p in positions] == sorted({p[0].offset for p in positions})
    await bench.writer.close()


async def test_outcomes_come_in_order_even_when_waiters_were_cancelled() -> None:
    bench = Bench()
    held = await bench.hold()
    heard: list[int] = []
    futures = [bench.writer.submit([frame(b"%03d" % n)], done=lambda _p, _e, n=n: heard.append(n)) for n in range(5)]
    assert futures[2].cancel()
    bench.gate.set()
    _ = await asyncio.gather(held, *(f for f in futures if not f.cancelled()))
    assert heard == [0, 1, 2, 3, 4]
    await bench.writer.close()


async def test_notes_are_committed_before_anyone_hears_when_a_batch_is_durable() -> None:
    bench = Bench()
    seen: list[list[object]] = []
    await bench.writer.submit([frame(b"x")], note="note", done=lambda _p, _e: seen.append(list(bench.policy.notes)))
    assert seen == [["note"]]
    await bench.writer.close()


async def test_append_is_refused_as_busy_when_the_queue_is_full() -> None:
    bench = Bench(queue_bytes_max=4 * KIB)
    held = await bench.hold()
    queued = bench.writer.submit([frame(bytes(3 * KIB))])
    with pytest.raises(Busy):
        await bench.writer.append([frame(bytes(2 * KIB))])
    bench.gate.set()
    _ = await asyncio.gather(held, queued)
    await bench.writer.append([frame(bytes(2 * KIB))])
    await bench.writer.close()


async def test_append_is_refused_when_it_is_larger_than_a_batch() -> None:
    bench = Bench()
    with pytest.raises(InvalidArgument):
        await bench.writer.append([frame(bytes(40 * KIB))])
    with pytest.raises(InvalidArgument):
        await bench.writer.append([])
    await bench.writer.close()


async def test_journal_is_usable_again_when_space_returns() -> None:
    bench = Bench()
    for n in range(1, 3):
        await bench.writer.append([frame(b"%03d" % n + bytes(24 * KIB))])
    bench.files.space_bytes = 10 * KIB
    with pytest.raises(NoSpace):
        await bench.writer.append([frame(b"lost" + bytes(24 * KIB))])
    bench.files.space_bytes = None
    await bench.writer.append([frame(b"003" + bytes(24 * KIB))])
    await bench.writer.close()
    assert [content[:3] for content in bench.stored()] == [b"001", b"002", b"003"]
    assert not bench.fatal


async def test_what_was_queued_behind_a_failed_write_fails_with_it() -> None:
    bench = Bench()
    held = await bench.hold()
    bench.files.failing_writes = 1
    first = bench.writer.submit([frame(b"002" + bytes(30 * KIB))])
    second = bench.writer.submit([frame(b"003" + bytes(30 * KIB))])
    bench.gate.set()
    _ = await held
    with pytest.raises(StorageFailed):
        _ = await first
    with pytest.raises(StorageFailed):
        _ = await second
    _ = await bench.writer.submit([frame(b"004")])
    await bench.writer.close()
    assert bench.stored() == [b"000", b"001", b"004"]


async def test_writer_is_dead_for_ever_when_a_sync_failed() -> None:
    bench = Bench()
    await bench.writer.append([frame(b"000")])
    bench.files.sync_fails = True
    with pytest.raises(StorageFailed):
        await bench.writer.append([frame(b"001")])
    bench.files.sync_fails = False
    with pytest.raises(StorageFailed):
        await bench.writer.append([frame(b"002")])
    assert len(bench.fatal) == 1
    await bench.writer.close()


async def test_waiters_are_answered_when_the_policy_is_broken() -> None:
    bench = Bench()

    def broken(notes: Sequence[object]) -> None:
        raise KeyError(len(notes))

    bench.policy.committed = broken  # type: ignore[method-assign]
    with pytest.raises(DwError):
        await bench.writer.append([frame(b"000")])
    assert len(bench.fatal) == 1
    await bench.writer.close()


async def test_queue_is_written_when_the_writer_is_closed() -> None:
    bench = Bench()
    held = await bench.hold()
    queued = bench.writer.submit([frame(b"002")])
    bench.gate.set()
    await bench.writer.close()
    assert held.done()
    assert queued.done()
    assert bench.stored() == [b"000", b"001", b"002"]
    with pytest.raises(StorageFailed):
        await bench.writer.append([frame(b"003")])


async def test_segments_open_with_their_opening_when_the_journal_rolls_over() -> None:
    bench = Bench()
    bench.policy.openings = [frame(b"opening")]
    for n in range(5):
        await bench.writer.append([frame(b"%03d" % n + bytes(28 * KIB))])
    await bench.writer.close()
    assert [c[:7].rstrip(b"\0") for c in bench.stored()] == [
        b"opening", b"000", b"001", b"opening", b"002", b"003", b"opening", b"004",
    ]  # fmt: skip
