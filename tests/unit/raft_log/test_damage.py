"""A small log with a byte changed, at every byte that was written: never a wrong entry, never silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dwd.base.errors import Corrupt
from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.base.units import KIB
from dwd.journal.recovery import Recovery, Verdict
from dwd.journal.scan import ScannedBatch
from dwd.raft.core.types import Entry, HardState
from dwd.raft.log.bounds import parse_segment_name
from dwd.raft.log.opening import IDENTITY_NAME
from dwd.raft.log.replay import Replay
from dwd.raft.log.store import RaftLog, RaftLogOptions
from dwd.raft.ports import Doubt, LogWrite, RecoveredLog
from dwd.runtime.testing_files import MemoryFiles
from tests.property.raft_log.log_model import entry, position
from tests.twins.virtual_time import SeededRng

DIRECTORY = Path("/data/log")
ONE, TWO, THREE = GroupId(1), GroupId(2), GroupId(3)
Logs = dict[GroupId, RecoveredLog]


def write(group: GroupId, first: int, count: int, term: int) -> LogWrite:
    return LogWrite(
        group=group,
        replica=ReplicaId(70 + group),
        hard_state=HardState(term=Term(term), vote=ReplicaId(term), commit=LogIndex(0)),
        entries=tuple(entry(first + n, term, 40) for n in range(count)),
    )


WRITES = (
    [write(ONE, 1, 4, 1), write(TWO, 1, 3, 1)],
    [write(ONE, 5, 3, 1)],
    [write(ONE, 6, 2, 2)],  # replaces 6 and 7 under another leader
    [LogWrite(group=THREE, replica=ReplicaId(73), reset=position(40, 3), entries=(entry(41, 3),))],
    [write(TWO, 4, 12, 3)],
    [write(ONE, 8, 14, 3)],
    [write(TWO, 15, 1, 4), write(ONE, 22, 1, 4)],
)


async def build(upto: int) -> MemoryFiles:
    memory = MemoryFiles()
    options = RaftLogOptions(segment_bytes=7 * KIB, batch_bytes=2 * KIB)
    log = await RaftLog.open(
        files=memory, directory=DIRECTORY, rng=SeededRng(1), on_fatal=lambda _: None, options=options
    )
    for writes in WRITES[:upto]:
        await log.write(writes)
    await log.close()
    return memory


def paths_of(memory: MemoryFiles) -> dict[int, Path]:
    names = memory.list(DIRECTORY)
    return {number: DIRECTORY / name for name in names if (number := parse_segment_name(name)) is not None}


def replay(memory: MemoryFiles) -> tuple[Logs, Replay]:
    """As `open_log` reads, without changing anything."""
    found = Replay()
    found.run(Recovery(memory, paths_of(memory), journal=memory.read(DIRECTORY / IDENTITY_NAME)[:16]))
    return found.logs(), found


def without_doubt(log: RecoveredLog) -> tuple[object, ...]:
    return log.replica, log.hard_state, log.compacted, log.entries


def written_places(memory: MemoryFiles) -> list[tuple[Path, int, bool]]:
    """(path, offset, belongs to the last batch of all) of every byte that carries something."""
    places: list[tuple[Path, int, bool]] = []
    batches: list[tuple[Path, ScannedBatch]] = []
    paths = paths_of(memory)
    recovery = Recovery(memory, paths)
    segment = 0
    for event in recovery:
        if isinstance(event, ScannedBatch):
            batches.append((paths[segment], event))
        else:
            segment = event.segment
    for path in paths.values():
        places += [(path, offset, False) for offset in range(58)]
    for path, batch in batches:
        end = batch.head.frames[-1].position.offset + batch.head.frames[-1].position.length
        is_last = batch is batches[-1][1]
        places += [(path, offset, is_last) for offset in range(batch.head.offset, end)]
    return places


def test_no_wrong_entry_is_ever_recovered_when_any_byte_is_damaged() -> None:
    memory = asyncio.run(build(len(WRITES)))
    truth, intact = replay(memory)
    earlier, _ = replay(asyncio.run(build(len(WRITES) - 1)))
    assert not intact.damages
    assert len(paths_of(memory)) >= 2, "more than one segment, or openings prove nothing"
    ever: set[tuple[GroupId, Entry]] = {(w.group, e) for writes in WRITES for w in writes for e in w.entries}
    for path, offset, in_last_batch in written_places(memory):
        memory.flip(path, offset, 0x41)
        logs, found = replay(memory)
        memory.flip(path, offset, 0x41)
        where = f"{path.name} at {offset}"
        assert found.damages, f"{where}: unnoticed"
        for group, log in logs.items():
            if log.doubt is Doubt.NONE:
                assert without_doubt(log) == without_doubt(truth[group]), where
            elif log.doubt is Doubt.TAIL:
                assert in_last_batch, where
                assert without_doubt(log) == without_doubt(earlier[group]), where
            else:
                assert {(group, e) for e in log.entries} <= ever, where
        silent = truth.keys() - logs.keys()
        assert not silent or any(d.frames is None for d in found.damages), f"{where}: {silent} forgotten"


def test_others_are_not_doubted_when_one_group_s_payload_is_damaged() -> None:
    memory = asyncio.run(build(3))
    frames = next(e for e in Recovery(memory, paths_of(memory)) if isinstance(e, ScannedBatch) and len(e.payloads) == 2)
    memory.flip(paths_of(memory)[1], frames.head.frames[1].position.offset + 40)
    logs, _ = replay(memory)
    truth, _ = replay(asyncio.run(build(3)))
    assert logs[TWO].doubt is Doubt.CORRUPT
    assert logs[ONE] == truth[ONE]


def test_replaced_entries_do_not_come_back_when_the_batch_that_replaced_them_is_lost() -> None:
    """Entries 6 and 7 of term 1 were replaced by term 2 in a batch that is damaged; 8 of term 3 follows it."""
    memory = asyncio.run(build(6))
    batches = [e for e in Recovery(memory, paths_of(memory)) if isinstance(e, ScannedBatch)]
    memory.flip(paths_of(memory)[1], batches[3].head.offset)
    logs, _ = replay(memory)
    assert logs[ONE].doubt is Doubt.CORRUPT
    assert not {(e.index, e.term) for e in logs[ONE].entries} & {(8, 3)}


async def test_tail_doubt_survives_restarts_until_confirmed_when_the_last_batch_is_bad() -> None:
    memory = await build(2)
    options = RaftLogOptions(segment_bytes=7 * KIB, batch_bytes=2 * KIB)
    last = [e for e in Recovery(memory, paths_of(memory)) if isinstance(e, ScannedBatch)][-1]
    memory.flip(paths_of(memory)[1], last.head.offset + 60)

    async def doubts(confirm: bool) -> dict[GroupId, Doubt]:
        log = await RaftLog.open(
            files=memory, directory=DIRECTORY, rng=SeededRng(2), on_fatal=lambda _: None, options=options
        )
        found = {group: recovered.doubt for group, recovered in log.recovered().items()}
        if confirm:
            await log.write([LogWrite(group=ONE, replica=ReplicaId(71), tail_confirmed=True)])
        await log.close()
        return found

    assert await doubts(confirm=False) == {ONE: Doubt.TAIL, TWO: Doubt.NONE}
    assert await doubts(confirm=True) == {ONE: Doubt.TAIL, TWO: Doubt.NONE}
    assert await doubts(confirm=False) == {ONE: Doubt.NONE, TWO: Doubt.NONE}


async def test_corrupt_doubt_ends_when_the_group_starts_again_as_a_new_replica() -> None:
    memory = await build(3)
    batches = [e for e in Recovery(memory, paths_of(memory)) if isinstance(e, ScannedBatch)]
    memory.flip(paths_of(memory)[1], batches[1].head.offset + 3)
    options = RaftLogOptions(segment_bytes=7 * KIB, batch_bytes=2 * KIB)

    async def opened() -> RaftLog:
        return await RaftLog.open(
            files=memory, directory=DIRECTORY, rng=SeededRng(2), on_fatal=lambda _: None, options=options
        )

    log = await opened()
    assert log.recovered()[ONE].doubt is Doubt.CORRUPT
    await log.write(
        [LogWrite(group=ONE, replica=ReplicaId(500), reset=position(30, 5), entries=(entry(31, 5),))],
    )
    await log.close()
    log = await opened()
    again = log.recovered()[ONE]
    await log.close()
    assert (again.replica, again.doubt, [e.index for e in again.entries]) == (500, Doubt.NONE, [31])


def test_reading_refuses_when_no_header_and_no_identity_is_left() -> None:
    memory = asyncio.run(build(1))
    memory.flip(paths_of(memory)[1], 20)
    with pytest.raises(Corrupt):
        _ = Recovery(memory, paths_of(memory))


def test_corruption_is_seen_when_the_last_batch_of_an_older_segment_vanished() -> None:
    memory = asyncio.run(build(len(WRITES)))
    paths = paths_of(memory)
    last = [e for e in Recovery(memory, {1: paths[1]}) if isinstance(e, ScannedBatch)][-1]
    file = memory.open(paths[1])
    file.truncate(last.head.offset)
    file.allocate(last.head.end)
    logs, found = replay(memory)
    assert [damage.verdict for damage in found.damages] == [Verdict.CORRUPT]
    assert Doubt.CORRUPT in {log.doubt for log in logs.values()}


def test_a_group_is_doubted_when_what_was_before_its_first_readable_record_is_lost() -> None:
    """The only segment begins with a damaged opening: a vote found later does not make a group whole."""
    memory = asyncio.run(build(1))
    first = next(e for e in Recovery(memory, paths_of(memory)) if isinstance(e, ScannedBatch))
    memory.flip(paths_of(memory)[1], first.head.offset + 1)
    logs, _ = replay(memory)
    assert {group: log.doubt for group, log in logs.items()} == {ONE: Doubt.CORRUPT, TWO: Doubt.CORRUPT}
