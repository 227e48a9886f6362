"""What the host sees of the log: reads, compaction, removal of segments, the byte budget."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dwd.base.errors import DwError, InvariantViolation, NoSpace, NotFound, StorageFailed
from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.base.units import KIB, MIB
from dwd.raft.core.types import HardState
from dwd.raft.log.records import FRAME_ENTRIES_BYTES, decode_write, encode_write, split_write
from dwd.raft.log.store import RaftLog, RaftLogOptions
from dwd.raft.ports import Doubt, LogWrite
from dwd.runtime.testing_files import FaultyFiles, MemoryFiles
from tests.property.raft_log.log_model import entry, position
from tests.twins.virtual_time import SeededRng

DIRECTORY = Path("/data/log")
SMALL = RaftLogOptions(segment_bytes=64 * KIB, budget_bytes=256 * KIB, cache_bytes=0, batch_bytes=32 * KIB)
BUSY = GroupId(7)
GOLDEN = Path(__file__).parent / "golden" / "write-v1.bin"


def entries(group: int, first: int, count: int, size: int = 100, term: int = 1) -> LogWrite:
    return LogWrite(
        group=GroupId(group),
        replica=ReplicaId(1000 + group),
        entries=tuple(entry(first + n, term, size) for n in range(count)),
    )


class Bench:
    def __init__(self) -> None:
        self.memory = MemoryFiles()
        self.files = FaultyFiles(self.memory)
        self.fatal: list[DwError] = []

    async def open(self, options: RaftLogOptions = SMALL) -> RaftLog:
        return await RaftLog.open(
            files=self.files, directory=DIRECTORY, rng=SeededRng(3), on_fatal=self.fatal.append, options=options
        )

    def segments(self) -> list[str]:
        return [name for name in self.memory.list(DIRECTORY) if name.endswith(".log")]


def indexes(read: tuple[object, ...]) -> list[int]:
    return [e.index for e in read]  # type: ignore[attr-defined]


async def test_reads_stop_at_the_byte_limit_but_give_at_least_one() -> None:
    log = await Bench().open()
    await log.write([entries(1, 1, 10, size=100)])
    one, last = LogIndex(1), LogIndex(10)
    assert indexes(await log.read(GroupId(1), one, last, 0)) == [1]
    assert indexes(await log.read(GroupId(1), one, last, 300)) == [1, 2]  # with what entries cost beside payload
    assert indexes(await log.read(GroupId(1), LogIndex(4), last, 1 * MIB)) == list(range(4, 11))
    with pytest.raises(NotFound):
        _ = await log.read(GroupId(1), LogIndex(11), LogIndex(12), 1)
    with pytest.raises(NotFound):
        _ = await log.read(GroupId(2), one, last, 1)
    await log.close()


async def test_what_is_not_durable_yet_is_read_when_its_write_is_under_way() -> None:
    log = await Bench().open()
    await log.write([entries(1, 1, 3)])
    writing = asyncio.gather(log.write([entries(1, 4, 2)]), log.write([entries(1, 3, 1, term=2)]))
    await asyncio.sleep(0)
    read = await log.read(GroupId(1), LogIndex(1), LogIndex(9), 1 * MIB)
    assert [(e.index, e.term) for e in read] == [(1, 1), (2, 1), (3, 2)]
    _ = await writing
    await log.close()


async def test_entries_below_are_not_found_when_compacted() -> None:
    bench = Bench()
    log = await bench.open()
    await log.write([entries(1, 1, 10)])
    before = log.bytes_held(GroupId(1))
    await log.compact(GroupId(1), position(6, 1))
    await log.write(
        [
            LogWrite(
                group=GroupId(2),
                replica=ReplicaId(2),
                hard_state=HardState(term=Term(1), vote=ReplicaId(0), commit=LogIndex(0)),
            )
        ]
    )
    with pytest.raises(NotFound):
        _ = await log.read(GroupId(1), LogIndex(6), LogIndex(7), 1)
    assert indexes(await log.read(GroupId(1), LogIndex(7), LogIndex(7), 1)) == [7]
    assert log.bytes_held(GroupId(1)) == before * 4 // 10
    await log.close()
    log = await bench.open()
    again = log.recovered()[GroupId(1)]
    assert (again.compacted, [e.index for e in again.entries]) == (position(6, 1), [7, 8, 9, 10])
    await log.close()


async def test_segments_stay_few_when_one_of_many_groups_is_busy_and_pinning_ones_compact() -> None:
    """The soak of the design in small: 200 groups wrote once, one goes on; who pins is asked to compact."""
    bench = Bench()
    log = await bench.open()
    for group in range(100, 300):
        await log.write([entries(group, 1, 1)])
    most = 0
    for first in range(1, 6000, 60):
        await log.write([entries(BUSY, first, 60)])
        await log.compact(BUSY, position(first + 30, 1))
        for group in log.pinning():
            await log.compact(group, position(first + 30 if group == BUSY else 1, 1))
        most = max(most, len(bench.segments()))
    await log.close()
    assert most <= 4 + 4, "the budget is four segments; a few may come while compactions are under way"
    log = await bench.open()
    recovered = log.recovered()
    assert len(recovered) == 201
    assert {r.doubt for r in recovered.values()} == {Doubt.NONE}
    assert [e.index for e in recovered[BUSY].entries] == list(range(recovered[BUSY].compacted.index + 1, 6001))
    await log.close()


async def test_nobody_pins_when_the_log_is_within_its_budget() -> None:
    log = await Bench().open()
    await log.write([entries(1, 1, 10)])
    assert log.pinning() == ()
    await log.close()


async def test_a_group_is_forgotten_when_dropped() -> None:
    bench = Bench()
    log = await bench.open()
    await log.write([entries(1, 1, 3), entries(2, 1, 3)])
    await log.drop(GroupId(1))
    with pytest.raises(NotFound):
        _ = await log.read(GroupId(1), LogIndex(1), LogIndex(1), 1)
    await log.close()
    log = await bench.open()
    assert set(log.recovered()) == {GroupId(2)}
    await log.close()


async def test_a_write_that_leaves_a_hole_is_refused() -> None:
    log = await Bench().open()
    await log.write([entries(1, 1, 3)])
    with pytest.raises(InvariantViolation):
        await log.write([entries(1, 5, 1)])
    await log.write([entries(1, 4, 1), entries(1, 5, 1)])
    await log.close()


async def test_log_goes_on_without_a_hole_when_the_disk_was_full() -> None:
    bench = Bench()
    log = await bench.open()
    await log.write([entries(1, 1, 20, size=1000)])
    bench.files.space_bytes = 0

    async def fill() -> None:
        for first in range(21, 200, 20):
            await log.write([entries(1, first, 20, size=1000)])

    with pytest.raises(NoSpace):
        await fill()
    held = int(log.bytes_held(GroupId(1)) // 1036)
    bench.files.space_bytes = None
    with pytest.raises(InvariantViolation):
        await log.write([entries(1, held + 21, 1)])
    await log.write([entries(1, held + 1, 5)])
    await log.close()
    log = await bench.open()
    assert [e.index for e in log.recovered()[GroupId(1)].entries] == list(range(1, held + 6))
    await log.close()


async def test_everything_is_refused_when_a_sync_failed() -> None:
    bench = Bench()
    log = await bench.open()
    await log.write([entries(1, 1, 1)])
    bench.files.sync_fails = True
    with pytest.raises(StorageFailed):
        await log.write([entries(1, 2, 1)])
    bench.files.sync_fails = False
    with pytest.raises(StorageFailed):
        await log.write([entries(1, 2, 1)])
    assert len(bench.fatal) == 1
    await log.close()


async def test_a_write_larger_than_a_frame_is_kept_whole() -> None:
    bench = Bench()
    options = RaftLogOptions(cache_bytes=0)
    log = await bench.open(options)
    await log.write([entries(1, 1, 12, size=FRAME_ENTRIES_BYTES // 3)])
    assert indexes(await log.read(GroupId(1), LogIndex(1), LogIndex(12), 100 * MIB)) == list(range(1, 13))
    await log.close()
    log = await bench.open(options)
    assert [e.index for e in log.recovered()[GroupId(1)].entries] == list(range(1, 13))
    await log.close()


def test_record_has_the_released_bytes_and_decodes() -> None:
    write = LogWrite(
        group=GroupId(5),
        replica=ReplicaId(6),
        hard_state=HardState(term=Term(3), vote=ReplicaId(6), commit=LogIndex(41)),
        entries=(entry(43, 3, 10), entry(44, 3, 0)),
        reset=position(42, 2),
        tail_confirmed=True,
    )
    assert list(split_write(write)) == [write]
    frame, sizes = encode_write(write)
    content = b"".join(frame.pieces)
    assert content == GOLDEN.read_bytes()
    decoded, places = decode_write(GroupId(5), ReplicaId(6), memoryview(content))
    assert decoded == write
    assert tuple(place.length for place in places) == sizes
