"""The file a snapshot is received into: begun as a copy of the replica's own state, page by page made the sender's.

All of it blocks and runs on worker threads, one call at a time. Whatever the file holds is good to begin with: its
pages' hashes decide what is fetched. So what an interrupted transfer left, also one of another sender or before a
restart, is where the next one goes on.
Invariant: `finish` returns only if the file is durable, of the announced size, and hashes to the announced digest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from dwd.base.errors import Corrupt, DwError, NoSpace
from dwd.raft.snapshots.pages import RANGE_BYTES, Extent, file_digest, hash_extent
from dwd.runtime.files import File
from dwd.runtime.os_files import OsFiles

CopyOwn = Callable[[Path], object]
"""Blocking: writes a copy of the replica's own state."""


class IncomingFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = OsFiles()
        self._filled = 0
        """Up to here the file may hold something."""

    def begin(self, size: int, reserve_bytes: int, copy_own: CopyOwn) -> None:
        """Reserve `size` bytes, leaving `reserve_bytes` on the disk, and fill in what is here already. Raises NoSpace,
        StorageFailed.
        """
        present = self._size()
        if present < size:
            free = shutil.disk_usage(self.path.parent).free
            needed = size - present + reserve_bytes
            if free < needed:
                raise NoSpace("raft.snapshot_space", "no space for a snapshot", free_bytes=free, needed_bytes=needed)
        if not present:
            try:
                copy_own(self.path)
            except DwError:  # of no use to begin with, whatever is wrong with it: all of it is fetched
                self.path.unlink(missing_ok=True)
            present = self._size()
        self._filled = min(present, size)
        file = self._open()
        try:
            if present > size:
                file.truncate(size)
            file.allocate(size)
        finally:
            file.close()

    def hashes(self, offset: int) -> bytes:
        """Of what is here of the range that begins at `offset`."""
        return hash_extent(self.path, Extent(offset=offset, length=min(RANGE_BYTES, self._filled - offset)))

    def write(self, extents: Sequence[Extent], data: bytes) -> None:
        view, at = memoryview(data), 0
        file = self._open()
        try:
            for extent in extents:
                file.write_at(extent.offset, [view[at : at + extent.length]])
                at += extent.length
        finally:
            file.close()
        self._filled = max(self._filled, extents[-1].end)

    def finish(self, size: int, digest: bytes) -> None:
        """Raises Corrupt: some pages are not the sender's. Their hashes tell which."""
        file = self._open()
        try:
            file.sync()
            found = file.size()
        finally:
            file.close()
        self._filled = found
        if found != size:
            raise Corrupt("raft.snapshot_size", f"{found} bytes came of {size} announced")
        if digest and file_digest(self.path, size) != digest:
            raise Corrupt("raft.snapshot_digest", "the file received is not the one that was sent")

    def move(self, path: Path) -> None:
        self._files.rename(self.path, path)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def _open(self) -> File:
        return self._files.open(self.path, create=True)

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0
