"""The file port on the operating system in recording mode: see dwd.runtime.undo_log for what that is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dwd.base.errors import StorageFailed
from dwd.runtime.files import Buffer, File
from dwd.runtime.os_files import OsFiles, write_durably
from dwd.runtime.undo_log import FileUndo, UndoLog


class RecordingFiles:
    """OsFiles that remember how to take back what was not synced. Only for tests of power loss."""

    def __init__(self, undo: UndoLog) -> None:
        self._undo = undo
        self._inner = OsFiles()

    def open(self, path: Path, *, create: bool = False, writable: bool = True) -> File:
        creating = create and not path.exists()
        if creating:
            self._undo.created(path)
        file = self._inner.open(path, create=create, writable=writable)
        return _RecordingFile(file, self._undo.file(path), path)

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

    def is_read_only(self, path: Path) -> bool:
        return self._inner.is_read_only(path)


class _RecordingFile:
    def __init__(self, inner: File, undo: FileUndo, path: Path) -> None:
        self._inner = inner
        self._undo = undo
        self._path = path

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
        if not self._path.exists():  # its bytes live on in the undo log, under another name
            raise StorageFailed("storage.failed", f"ENOENT: {self._path} was removed while in use", errno="ENOENT")

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

    def drop_cache(self, offset: int, length: int) -> None:
        self._inner.drop_cache(offset, length)

    def close(self) -> None:
        self._inner.close()
