"""A real process writes the log, says what was acknowledged, is killed, and loses all it had not synced."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dwd.base.ids import GroupId
from dwd.base.units import MIB
from dwd.raft.log.store import RaftLog, RaftLogOptions
from dwd.runtime.os_files import OsFiles
from dwd.runtime.undo_log import drop_unsynced
from tests.twins.virtual_time import SeededRng

OPTIONS = RaftLogOptions(segment_bytes=1 * MIB, batch_bytes=256 * 1024)
WRITER = """
import asyncio, sys
from pathlib import Path
from dwd.base.ids import GroupId, ReplicaId
from dwd.raft.log.store import RaftLog, RaftLogOptions
from dwd.raft.ports import LogWrite
from dwd.runtime.clock import SystemRng
from dwd.runtime.recording_files import RecordingFiles, _RecordingFile
from dwd.runtime.undo_log import UndoLog
from tests.property.raft_log.log_model import entry

data, undo, syncs = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True"

async def main():
    files = RecordingFiles(UndoLog(undo, [data]))
    options = RaftLogOptions(segment_bytes=1 << 20, batch_bytes=1 << 18)
    log = await RaftLog.open(files=files, directory=data, rng=SystemRng(), on_fatal=print, options=options)
    await log.write([LogWrite(group=GroupId(1), replica=ReplicaId(2), entries=(entry(1, 1),))])
    if not syncs:
        _RecordingFile.sync = lambda self: None
    index = 2
    while True:
        await asyncio.gather(*(
            log.write([LogWrite(group=GroupId(1), replica=ReplicaId(2), entries=(entry(index + n, 1, 3000),))])
            for n in range(8)
        ))
        index += 8
        sys.stderr.write(f"{index - 1}\\n")

asyncio.run(main())
"""


def life(tmp_path: Path, *, syncs: bool, acknowledged_min: int) -> tuple[int, int]:
    """(last index acknowledged, last index recovered) after the kill and the loss of power."""
    data, undo = tmp_path / "data", tmp_path / "undo"
    data.mkdir()
    root = str(Path(__file__).resolve().parents[3])
    command = [sys.executable, "-c", WRITER, str(data), str(undo), str(syncs)]
    environment = {**os.environ, "PYTHONPATH": root}
    acknowledged = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            acknowledged = int(line)
            if acknowledged >= acknowledged_min:
                process.kill()
        _ = process.wait(30)
    _ = drop_unsynced(undo, SeededRng(acknowledged) if syncs else None)

    async def recovered() -> int:
        log = await RaftLog.open(
            files=OsFiles(), directory=data, rng=SeededRng(1), on_fatal=lambda _: None, options=OPTIONS
        )
        found = log.recovered()[GroupId(1)]
        await log.close()
        assert [e.index for e in found.entries] == list(range(1, len(found.entries) + 1))
        return len(found.entries)

    return acknowledged, asyncio.run(recovered())


@pytest.mark.parametrize("acknowledged_min", [9, 200, 900])
def test_nothing_acknowledged_is_lost_when_the_power_goes(tmp_path: Path, acknowledged_min: int) -> None:
    acknowledged, recovered = life(tmp_path, syncs=True, acknowledged_min=acknowledged_min)
    assert recovered >= acknowledged >= acknowledged_min


def test_acknowledged_entries_are_lost_when_the_build_does_not_sync(tmp_path: Path) -> None:
    """The proof that the test above can fail."""
    acknowledged, recovered = life(tmp_path, syncs=False, acknowledged_min=40)
    assert recovered < acknowledged
