"""A log that may be an older copy of itself: everything in it stands, and every group's end is in doubt, durably."""

from __future__ import annotations

from dwd.base.ids import LogIndex
from dwd.raft.log.store import RaftLog
from dwd.raft.ports import Doubt, LogWrite
from dwd.runtime.testing_files import MemoryFiles
from tests.property.raft_log.log_model import entry
from tests.twins.virtual_time import SeededRng
from tests.unit.raft_log.test_damage import DIRECTORY, ONE, TWO, WRITES, build


async def opened(memory: MemoryFiles, *, distrusted: bool = False) -> RaftLog:
    return await RaftLog.open(
        files=memory, directory=DIRECTORY, rng=SeededRng(2), on_fatal=lambda _: None, distrusted=distrusted
    )


async def test_every_group_is_in_doubt_until_confirmed_when_the_log_is_distrusted() -> None:
    memory = await build(len(WRITES))
    sound = await opened(memory)
    before = sound.recovered()
    assert {log.doubt for log in before.values()} == {Doubt.NONE}
    entries = {group: log.entries for group, log in before.items()}
    await sound.close()

    await (await opened(memory, distrusted=True)).close()
    again = await opened(memory)
    assert {log.doubt for log in again.recovered().values()} == {Doubt.TAIL}
    assert {group: log.entries for group, log in again.recovered().items()} == entries
    one = again.recovered()[ONE]
    confirmed = LogWrite(group=ONE, replica=one.replica, entries=(entry(23, 4),), tail_confirmed=True)
    await again.write([confirmed])
    await again.close()

    last = await opened(memory)
    assert last.recovered()[ONE].doubt is Doubt.NONE
    assert last.recovered()[ONE].entries[-1].index == LogIndex(23)
    assert last.recovered()[TWO].doubt is Doubt.TAIL
    await last.close()


async def test_nothing_is_in_doubt_when_a_distrusted_log_is_empty() -> None:
    memory = MemoryFiles()
    log = await opened(memory, distrusted=True)
    assert not log.recovered()
    await log.close()
