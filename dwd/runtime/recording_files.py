"""The file port on the operating system in recording mode: see dwd.runtime.undo_log for what that is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dwd.runtime.files import Buffer, File
from dwd.runtime.os_files import OsFiles, write_durably
from dwd.runtime.undo_log import FileUndo, UndoLog


class RecordingFiles:
    """OsFiles that remember how to take back what was not synced. Only for tests of power loss."""

    def __init__(self, undo: UndoLog) -> None:
        self._undo = undo
        self._inner = OsFiles()

    def open(self, path: Path, *, create: bool = False) -> File:
        creating = create and not path.exists()
        if creating:
            self._undo.created(path)
        file = self._inner.open(path, create=create)
        return _RecordingFile(file, self._undo.file(path))

    def read(self, path: Path) -> bytes:
        return self._inner.read(path)

    def write_durably(self, path: Path, content: Buffer) -> None:
        write_durably(self, path, content)

    def list(self, path: Path) -> list[str]:
        return self._inner.list(path)

    def exists(self, path: Path) -> bool:
        return self._inner.exists(path)

    def make_directory(self, path: Path) -> None:
        self._inner.make_directory(path)

    def remove(self, path: Path) -> None:
        if path.exists():
            self._undo.removing(path)
        self._inner.remove(path)

    def rename(self, source: Path, target: Path) -> None:
        if source.exists():
            self._undo.renaming(source, target)
        self._inner.rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self._inner.sync_directory(path)
        self._undo.names_synced(path)

    def free_bytes(self, path: Path) -> tuple[int, int]:
        return self._inner.free_bytes(path)


class _RecordingFile:
    def __init__(self, inner: File, undo: FileUndo) -> None:
        self._inner = inner
        self._undo = undo

    def write_at(self, offset: int, buffers: Sequence[Buffer]) -> int:
        with self._undo.lock:
            self._undo.before(offset, sum(map(len, buffers)))
            return self._inner.write_at(offset, buffers)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._inner.read_at(offset, length)

    def sync(self) -> None:
        with self._undo.lock:
            self._inner.sync()
            self._undo.synced()

    def allocate(self, length: int) -> None:
        with self._undo.lock:
            self._undo.before(self._inner.size(), 0)
            self._inner.allocate(length)

    def truncate(self, length: int) -> None:
        with self._undo.lock:
            self._undo.before(length, None)
            self._inner.truncate(length)

    def size(self) -> int:
        return self._inner.size()

    def close(self) -> None:
        self._inner.close()
