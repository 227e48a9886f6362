"""A small log of many groups in several segments, cut short or half written at every byte: what is left is a beginning
of what was written, and who may have lost something acknowledged knows it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from dwd.journal.recovery import Recovery
from dwd.journal.scan import ScannedBatch
from dwd.raft.log.store import RaftLog, RaftLogOptions
from dwd.raft.ports import Doubt
from dwd.runtime.testing_files import MemoryFiles
from tests.twins.virtual_time import SeededRng
from tests.unit.raft_log.test_damage import DIRECTORY, WRITES, build, paths_of, replay, without_doubt

SEGMENT_BYTES = 7 * 1024


def batches(memory: MemoryFiles) -> list[ScannedBatch]:
    return [event for event in Recovery(memory, paths_of(memory)) if isinstance(event, ScannedBatch)]


def last_segment(memory: MemoryFiles) -> Path:
    paths = paths_of(memory)
    return paths[max(paths)]


def batches_of_last(memory: MemoryFiles) -> list[ScannedBatch]:
    number = max(paths_of(memory))
    return [event for event in Recovery(memory, {number: paths_of(memory)[number]}) if isinstance(event, ScannedBatch)]


def end_of(batch: ScannedBatch) -> int:
    return batch.head.frames[-1].position.offset + batch.head.frames[-1].position.length


def test_only_the_last_batch_is_lost_and_its_groups_know_when_its_writing_stopped_at_any_byte() -> None:
    """A torn write leaves a beginning of the batch and zeros, or whatever was there, behind it."""
    memory = asyncio.run(build(len(WRITES)))
    truth, _ = replay(memory)
    earlier, _ = replay(asyncio.run(build(len(WRITES) - 1)))
    last = batches(memory)[-1]
    torn = {write.group for write in WRITES[-1]}
    file = memory.open(last_segment(memory))
    begin, end = last.head.offset, end_of(last)
    content = file.read_at(begin, end - begin)
    assert content[-1] != 0, "a cut of the last byte must change something"
    for kept in range(len(content)):
        for rest in (b"\x00", b"\xa5"):
            file.write_at(begin, [content[:kept] + rest * (len(content) - kept)])
            logs, found = replay(memory)
            where = f"after {kept} bytes, then {rest!r}"
            assert logs.keys() == truth.keys(), where
            seen = any(content[:kept]) or rest != b"\x00"
            assert bool(found.damages) == seen, f"{where}: unnoticed"
            for group, log in logs.items():
                expected = earlier if group in torn else truth
                assert without_doubt(log) == without_doubt(expected[group]), where
                assert log.doubt is Doubt.TAIL or not (seen and group in torn), where
                assert log.doubt is not Doubt.CORRUPT, where
    file.write_at(begin, [content])
    assert replay(memory)[0] == truth


def test_nothing_wrong_is_recovered_when_the_last_segment_is_cut_short_at_any_byte() -> None:
    """No crash does this to a file of fixed size, but a file system's repair may."""
    whole = asyncio.run(build(len(WRITES)))
    states = [replay(asyncio.run(build(upto)))[0] for upto in range(len(WRITES) + 1)]
    file = whole.open(last_segment(whole))
    ends = [0, *(end_of(batch) for batch in batches_of_last(whole))]
    for size in range(ends[-1]):
        memory = asyncio.run(build(len(WRITES)))
        memory.open(last_segment(memory)).truncate(size)
        logs, found = replay(memory)
        sound = {group: without_doubt(log) for group, log in logs.items() if log.doubt is not Doubt.CORRUPT}
        assert any(
            all(without_doubt(state[group]) == log for group, log in sound.items() if group in state)
            for state in states
        ), f"cut to {size}: no moment of the log's life"
        begun = max(end for end in ends if end <= size)
        if begun >= ends[1] and any(file.read_at(begun, size - begun)):  # before it looks like one never finished
            assert found.damages, f"cut to {size}: unnoticed"


async def test_a_log_opens_writes_and_opens_again_when_its_last_batch_stopped_anywhere() -> None:
    """The whole way, not only the reading: what is in doubt stays in doubt until it is confirmed."""
    options = RaftLogOptions(segment_bytes=SEGMENT_BYTES, batch_bytes=2048)

    async def opened(memory: MemoryFiles) -> RaftLog:
        return await RaftLog.open(
            files=memory, directory=DIRECTORY, rng=SeededRng(3), on_fatal=lambda _: None, options=options
        )

    last = batches(await build(3))[-1]
    for kept in range(8, end_of(last) - last.head.offset, 7):
        memory = await build(3)
        file = memory.open(last_segment(memory))
        file.write_at(last.head.offset + kept, [bytes(end_of(last) - last.head.offset - kept)])
        log = await opened(memory)
        doubts = {group: found.doubt for group, found in log.recovered().items()}
        held = {group: found.entries for group, found in log.recovered().items()}
        await log.close()
        log = await opened(memory)
        again = log.recovered()
        assert {group: found.doubt for group, found in again.items()} == doubts, kept
        assert {group: found.entries for group, found in again.items()} == held, kept
        assert Doubt.TAIL in doubts.values(), kept
        await log.close()
