"""One suite for every implementation of the file port."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dwd.base.errors import StorageFailed
from dwd.runtime.files import Files
from dwd.runtime.os_files import OsFiles
from dwd.runtime.recording_files import RecordingFiles
from dwd.runtime.testing_files import FaultyFiles, MemoryFiles
from dwd.runtime.undo_log import UndoLog


def memory(tmp_path: Path) -> Files:
    files = MemoryFiles()
    files.make_directory(tmp_path)
    return files


IMPLEMENTATIONS: dict[str, Callable[[Path], Files]] = {
    "os": lambda _: OsFiles(),
    "memory": memory,
    "faulty": lambda tmp_path: FaultyFiles(memory(tmp_path)),
    "recording": lambda tmp_path: RecordingFiles(UndoLog(tmp_path / "undo", [tmp_path])),
}


@pytest.fixture(params=IMPLEMENTATIONS)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return IMPLEMENTATIONS[request.param](tmp_path)


@pytest.fixture
def directory(files: Files, tmp_path: Path) -> Path:
    found = tmp_path / "a" / "b"
    files.make_directory(found)
    files.make_directory(found)
    return found


def test_written_buffers_are_read_back_one_after_another(files: Files, directory: Path) -> None:
    file = files.open(directory / "f", create=True)
    assert file.write_at(3, [b"ab", memoryview(b"cd"), b"", bytearray(b"e")]) == 5
    assert file.read_at(0, 100) == b"\0\0\0abcde"
    assert file.read_at(4, 2) == b"bc"
    assert file.read_at(8, 5) == b""
    assert file.size() == 8
    file.close()


def test_all_is_written_when_there_are_more_buffers_than_a_call_takes(files: Files, directory: Path) -> None:
    file = files.open(directory / "f", create=True)
    buffers = [bytes([n % 251]) * (n % 5) for n in range(5000)]
    assert file.write_at(10, buffers) == sum(map(len, buffers))
    assert file.read_at(10, 100_000) == b"".join(buffers)


def test_allocation_reads_as_zeros_and_never_shrinks(files: Files, directory: Path) -> None:
    file = files.open(directory / "f", create=True)
    file.write_at(0, [b"x"])
    file.allocate(5000)
    file.allocate(10)
    assert file.size() == 5000
    assert file.read_at(0, 6000) == b"x" + bytes(4999)


def test_truncated_bytes_are_zeros_when_the_file_grows_again(files: Files, directory: Path) -> None:
    file = files.open(directory / "f", create=True)
    file.write_at(0, [b"abcdef"])
    file.truncate(2)
    file.truncate(4)
    file.sync()
    assert file.read_at(0, 10) == b"ab\0\0"


def test_two_handles_see_one_file(files: Files, directory: Path) -> None:
    one = files.open(directory / "f", create=True)
    two = files.open(directory / "f")
    one.write_at(0, [b"abc"])
    assert two.read_at(0, 3) == b"abc"


def test_opening_fails_when_there_is_nothing(files: Files, directory: Path) -> None:
    with pytest.raises(StorageFailed):
        _ = files.open(directory / "none")
    with pytest.raises(StorageFailed):
        _ = files.open(directory / "none" / "f", create=True)
    with pytest.raises(StorageFailed):
        _ = files.read(directory / "none")
    with pytest.raises(StorageFailed):
        files.remove(directory / "none")


def test_a_closed_file_is_refused_and_closing_twice_is_harmless(files: Files, directory: Path) -> None:
    file = files.open(directory / "f", create=True)
    file.close()
    file.close()
    with pytest.raises(StorageFailed):
        file.write_at(0, [b"x"])
    with pytest.raises(StorageFailed):
        _ = file.read_at(0, 1)


def test_names_follow_creation_rename_and_removal(files: Files, directory: Path) -> None:
    files.write_durably(directory / "one", b"1")
    files.write_durably(directory / "two", b"2")
    files.write_durably(directory / "one", b"1 again")
    assert files.list(directory) == ["one", "two"]
    files.rename(directory / "one", directory / "two")
    files.sync_directory(directory)
    assert files.list(directory) == ["two"]
    assert files.read(directory / "two") == b"1 again"
    files.remove(directory / "two")
    assert not files.exists(directory / "two")
    assert files.list(directory.parent) == ["b"]


def test_free_bytes_are_part_of_the_total(files: Files, directory: Path) -> None:
    available, total = files.free_bytes(directory)
    assert 0 <= available <= total


def test_a_sync_fails_when_the_file_was_removed_meanwhile(files: Files, directory: Path) -> None:
    file = files.open(directory / "f", create=True)
    file.write_at(0, [b"abc"])
    file.sync()
    files.remove(directory / "f")
    file.write_at(3, [b"def"])
    with pytest.raises(StorageFailed):
        file.sync()


def test_bytes_are_the_same_when_the_cache_was_dropped(files: Files, directory: Path) -> None:
    file = files.open(directory / "f", create=True)
    file.write_at(0, [b"abc" * 5000])
    file.sync()
    file.drop_cache(0, 0)
    file.drop_cache(4096, 10)
    assert file.read_at(0, 20_000) == b"abc" * 5000


def test_a_file_is_read_when_it_is_not_opened_for_writing(files: Files, directory: Path) -> None:
    files.write_durably(directory / "f", b"abc")
    assert files.open(directory / "f", writable=False).read_at(0, 10) == b"abc"
    assert not files.is_read_only(directory)
