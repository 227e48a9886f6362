"""The file port: everything durable goes through it, so that tests can lose, tear and refuse bytes.

Twins: `OsFiles` (dwd.runtime.os_files), `MemoryFiles` (forgets what was not synced when told to lose power)
and `FaultyFiles` (wraps another and injects errors), the latter two in dwd.runtime.testing_files.
Methods block; callers run them on worker threads. Foreign exceptions become StorageFailed / NoSpace here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class File(Protocol):
    """An open file. Offsets and lengths are bytes."""

    def write_at(self, offset: int, buffers: Sequence[Buffer]) -> int:
        """Write all of `buffers` one after another from `offset` (pwritev, short writes continued); bytes written."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; shorter only at the end of the file."""
        ...

    def sync(self) -> None:
        """Fdatasync. When it raises, the caller must not believe any earlier unsynced write, nor sync again. Raises
        StorageFailed too when no name leads to the file any more: what was written would be gone with the process.
        """
        ...

    def allocate(self, length: int) -> None:
        """Reserve and extend to `length` bytes of zeros, so that later syncs write no metadata."""
        ...

    def truncate(self, length: int) -> None: ...

    def size(self) -> int: ...

    def drop_cache(self, offset: int, length: int) -> None:
        """The next read of these bytes comes from the device, if they were synced; a hint, never an error. `length` 0:
        to the end.
        """
        ...

    def close(self) -> None: ...


class Files(Protocol):
    """A file system. A created, removed or replaced name is durable after `sync_directory` of its parent."""

    def open(self, path: Path, *, create: bool = False, writable: bool = True) -> File:
        """Open for reading and, unless told otherwise, writing. Raises StorageFailed if it is not there and `create` is
        False.
        """
        ...

    def read(self, path: Path) -> bytes: ...

    def write_durably(self, path: Path, content: Buffer) -> None:
        """Replace `path` by a file of `content`: temporary file, fsync, rename, fsync of the directory."""
        ...

    def list(self, path: Path) -> list[str]:
        """Names in the directory, sorted."""
        ...

    def exists(self, path: Path) -> bool: ...

    def make_directory(self, path: Path) -> None:
        """With parents, durably; no error if it is there."""
        ...

    def remove(self, path: Path) -> None: ...

    def rename(self, source: Path, target: Path) -> None: ...

    def sync_directory(self, path: Path) -> None: ...

    def free_bytes(self, path: Path) -> tuple[int, int]:
        """(available, total) bytes of the file system holding `path`."""
        ...

    def is_read_only(self, path: Path) -> bool:
        """Whether the file system holding `path` takes no writes now."""
        ...
