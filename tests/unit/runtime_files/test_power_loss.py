"""What the twins lose, and what recording mode takes back after a process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import pytest

from dwd.base.errors import NoSpace, StorageFailed
from dwd.runtime.os_files import OsFiles
from dwd.runtime.recording_files import RecordingFiles
from dwd.runtime.testing_files import FaultyFiles, MemoryFiles
from dwd.runtime.undo_log import SECTOR_BYTES, UndoLog, drop_unsynced
from tests.twins.virtual_time import SeededRng

ROOT = Path("/")


def outcomes(prepare: str, seeds: int = 400) -> set[bytes | None]:
    """Content of /f after `prepare` and power losses of many seeds."""
    found: set[bytes | None] = set()
    for seed in range(seeds):
        files = MemoryFiles()
        file = files.open(ROOT / "f", create=True)
        for step in prepare.split():
            match step:
                case "write":
                    file.write_at(0, [b"a" * 512 + b"b" * 512])
                case "sync":
                    file.sync()
                case "name":
                    files.sync_directory(ROOT)
        files.power_loss(SeededRng(seed))
        found.add(files.read(ROOT / "f") if files.exists(ROOT / "f") else None)
        with pytest.raises(StorageFailed):
            file.sync()
    return found


def test_nothing_is_lost_when_content_and_name_were_synced() -> None:
    assert outcomes("write sync name") == {b"a" * 512 + b"b" * 512}


def test_the_name_may_be_lost_when_only_the_content_was_synced() -> None:
    assert outcomes("write sync") == {None, b"a" * 512 + b"b" * 512}


def test_sectors_are_lost_in_any_order_when_content_was_not_synced() -> None:
    whole, first, second = b"a" * 512 + b"b" * 512, b"a" * 512, bytes(512) + b"b" * 512
    assert outcomes("name write") == {b"", whole, first, second}


def test_everything_is_seen_when_only_the_process_died() -> None:
    files = MemoryFiles()
    _ = files.open(ROOT / "f", create=True).write_at(0, [b"x"])
    files.process_crash()
    assert files.read(ROOT / "f") == b"x"


def test_the_step_too_many_is_done_by_half_and_nothing_works_after_it() -> None:
    memory = MemoryFiles()
    files = FaultyFiles(memory)
    file = files.open(ROOT / "f", create=True)
    files.steps = 1
    file.write_at(0, [b"whole"])
    with pytest.raises(StorageFailed):
        file.write_at(5, [b"half"])
    with pytest.raises(StorageFailed):
        file.sync()
    assert memory.read(ROOT / "f") == b"wholeha"


def test_space_runs_out_where_told() -> None:
    files = FaultyFiles(MemoryFiles())
    file = files.open(ROOT / "f", create=True)
    files.space_bytes = 10
    with pytest.raises(NoSpace):
        file.write_at(0, [bytes(11)])
    file.truncate(0)
    assert file.write_at(0, [bytes(10)]) == 10


def test_a_bit_is_flipped_only_in_what_is_read_when_told() -> None:
    files = FaultyFiles(MemoryFiles())
    file = files.open(ROOT / "f", create=True)
    file.write_at(0, [b"abc"])
    files.read_flips[ROOT / "f"] = {1: 0x20}
    assert file.read_at(0, 3) == b"aBc"


def killed(tmp_path: Path, script: str) -> Path:
    """Run `script` in recording mode over tmp_path/data until it kills itself; the undo directory."""
    (tmp_path / "data").mkdir(exist_ok=True)
    undo = tmp_path / "undo"
    prelude = f"""
        import os, signal
        from pathlib import Path
        from dwd.runtime.recording_files import RecordingFiles
        from dwd.runtime.undo_log import UndoLog
        data = Path({str(tmp_path / "data")!r})
        undo = UndoLog(Path({str(undo)!r}), [data])
        files = RecordingFiles(undo)
        die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    """
    source = textwrap.dedent(prelude) + textwrap.dedent(script)
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", source], check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == -signal.SIGKILL
    return undo


def test_unsynced_content_and_names_are_taken_back_when_a_process_was_killed(tmp_path: Path) -> None:
    undo = killed(
        tmp_path,
        """
        kept = files.open(data / "kept", create=True)
        kept.allocate(3000)
        kept.write_at(0, [b"synced" * 100])
        kept.sync()
        gone = files.open(data / "gone.before", create=True)
        files.sync_directory(data)
        kept.write_at(300, [b"lost" * 1000])
        kept.truncate(100)
        kept.allocate(50_000)
        files.open(data / "fresh", create=True).write_at(0, [b"fresh"])
        files.rename(data / "gone.before", data / "gone.after")
        files.write_durably(data / "durable", b"durable")
        files.remove(data / "durable")
        die()
        """,
    )
    data = tmp_path / "data"
    assert drop_unsynced(undo) > 0
    found = {path.name: path.read_bytes() for path in data.iterdir()}
    # write_durably synced the directory, and with it the rename and the creations before it.
    assert found == {
        "kept": (b"synced" * 100).ljust(3000, b"\0"),
        "gone.after": b"",
        "fresh": b"",
        "durable": b"durable",
    }
    assert not undo.exists()


def test_removal_and_rename_are_taken_back_when_the_directory_was_not_synced(tmp_path: Path) -> None:
    undo = killed(
        tmp_path,
        """
        files.write_durably(data / "a", b"a")
        files.write_durably(data / "b", b"b")
        files.rename(data / "a", data / "b")
        files.open(data / "c", create=True)
        files.remove(data / "b")
        die()
        """,
    )
    assert drop_unsynced(undo) == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == {"a": b"a", "b": b"b"}


def test_a_prefix_of_the_unsynced_writes_survives_when_a_disk_had_begun(tmp_path: Path) -> None:
    found: set[bytes] = set()
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        data = tmp_path / str(seed) / "data"
        data.mkdir()
        files = RecordingFiles(UndoLog(tmp_path / str(seed) / "undo", [data]))
        files.write_durably(data / "f", b"0")
        file = files.open(data / "f")
        for number in range(1, 4):
            file.write_at(number, [b"%d" % number])
        assert drop_unsynced(tmp_path / str(seed) / "undo", SeededRng(seed)) >= 0
        found.add(OsFiles().read(data / "f"))
    assert found <= {b"0", b"01", b"012", b"0123"}
    assert len(found) > 1


def test_the_first_write_lost_is_torn_between_sectors_when_a_disk_had_begun(tmp_path: Path) -> None:
    torn = 0
    for seed in range(12):
        data = tmp_path / str(seed) / "data"
        data.mkdir(parents=True)
        files = RecordingFiles(UndoLog(tmp_path / str(seed) / "undo", [data]))
        files.write_durably(data / "f", bytes(8 * SECTOR_BYTES))
        file = files.open(data / "f")
        file.write_at(100, [b"x" * (4 * SECTOR_BYTES)])
        file.write_at(6 * SECTOR_BYTES, [b"y" * SECTOR_BYTES])
        _ = drop_unsynced(tmp_path / str(seed) / "undo", SeededRng(seed))
        content = OsFiles().read(data / "f")
        assert len(content) == 8 * SECTOR_BYTES
        first, second = content[100 : 100 + 4 * SECTOR_BYTES], content[6 * SECTOR_BYTES : 7 * SECTOR_BYTES]
        assert set(content) <= {0, ord("x"), ord("y")}
        if b"y" in second:
            assert set(first) == {ord("x")}, "a later write stays only with all before it"
        torn += b"x" in first and 0 in first
    assert 0 < torn < 12


@pytest.mark.parametrize("synchronous", ["FULL", "OFF"])
def test_sqlite_keeps_only_what_it_synced_when_a_process_was_killed(tmp_path: Path, synchronous: str) -> None:
    """With synchronous=OFF the same test loses the row: the VFS really records syncs."""
    undo = killed(
        tmp_path,
        f"""
        import apsw
        from dwd.runtime.recording_vfs import RECORDING_VFS, RecordingVfs
        vfs = RecordingVfs(undo)
        db = apsw.Connection(str(data / "db"), vfs=RECORDING_VFS)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE t (x)",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "PRAGMA synchronous = {synchronous}",
            "INSERT INTO t VALUES (1)",
        ):
            db.execute(statement).fetchall()
        die()
        """,
    )
    _ = drop_unsynced(undo)
    db = apsw.Connection(str(tmp_path / "data" / "db"))
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert db.execute("SELECT x FROM t").fetchall() == ([(1,)] if synchronous == "FULL" else [])
