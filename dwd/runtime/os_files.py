"""The file port on the operating system: pwritev, fdatasync, posix_fallocate, rename and directory fsync.

Hazard: after a failed fsync Linux may mark the lost pages clean, so a second fsync reports success over lost bytes.
Whoever sees `sync` raise must stop believing the file (Rebello et al. 2020, "Can Applications Recover from fsync
Failures?").
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dwd.base.errors import DwError, NoSpace, StorageFailed
from dwd.runtime.files import Buffer, File, Files

BUFFERS_PER_CALL_MAX = 1024
"""IOV_MAX on Linux."""

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def translated(error: OSError, doing: str) -> DwError:
    """`error` as the class callers react to: NoSpace when the device or quota is full, else StorageFailed."""
    number = error.errno or 0
    name = errno.errorcode.get(number, "unknown")
    if number in _NO_SPACE:
        return NoSpace("storage.no_space", f"no space left while {doing}", errno=name)
    return StorageFailed("storage.failed", f"{name} while {doing}", errno=name)


@contextlib.contextmanager
def _translating(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise translated(error, f"{doing} {path}") from error


class OsFile:
    """An open file of the operating system."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def write_at(self, offset: int, buffers: Sequence[Buffer]) -> int:
        total = sum(map(len, buffers))
        written = 0
        try:
            if len(buffers) <= BUFFERS_PER_CALL_MAX:
                written = os.pwritev(self._descriptor, buffers, offset)
            if written != total:
                _write_rest(self._descriptor, offset, buffers, written)
        except OSError as error:
            raise translated(error, f"writing {self._path}") from error
        return total

    def read_at(self, offset: int, length: int) -> bytes:
        with _translating("reading", self._path):
            content = os.pread(self._descriptor, length, offset)
            if len(content) == length or not content:
                return content
            pieces = [content]
            got = len(content)
            while got < length and (piece := os.pread(self._descriptor, length - got, offset + got)):
                pieces.append(piece)
                got += len(piece)
            return b"".join(pieces)

    def sync(self) -> None:
        with _translating("syncing", self._path):
            os.fdatasync(self._descriptor)
            linked = os.fstat(self._descriptor).st_nlink
        if not linked:
            raise StorageFailed("storage.failed", f"ENOENT: {self._path} was removed while in use", errno="ENOENT")

    def allocate(self, length: int) -> None:
        with _translating("allocating", self._path):
            present = os.fstat(self._descriptor).st_size
            if length > present:
                os.posix_fallocate(self._descriptor, present, length - present)

    def truncate(self, length: int) -> None:
        with _translating("truncating", self._path):
            os.ftruncate(self._descriptor, length)

    def size(self) -> int:
        with _translating("measuring", self._path):
            return os.fstat(self._descriptor).st_size

    def drop_cache(self, offset: int, length: int) -> None:
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Closing twice is harmless: the number may long belong to another file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with _translating("closing", self._path):
                os.close(descriptor)


class OsFiles:
    """The operating system's file system."""

    def open(self, path: Path, *, create: bool = False, writable: bool = True) -> File:
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        with _translating("opening", path):
            return OsFile(os.open(path, flags, 0o640), path)

    def read(self, path: Path) -> bytes:
        with _translating("reading", path):
            return path.read_bytes()

    def write_durably(self, path: Path, content: Buffer) -> None:
        write_durably(self, path, content)

    def list(self, path: Path) -> list[str]:
        with _translating("listing", path):
            return sorted(entry.name for entry in path.iterdir())

    def exists(self, path: Path) -> bool:
        with _translating("looking for", path):
            return path.exists()

    def make_directory(self, path: Path) -> None:
        missing = [part for part in (path, *path.parents) if not part.exists()]
        with _translating("making directory", path):
            for part in reversed(missing):
                part.mkdir(exist_ok=True)
                self.sync_directory(part.parent)

    def remove(self, path: Path) -> None:
        with _translating("removing", path):
            path.unlink()

    def rename(self, source: Path, target: Path) -> None:
        with _translating("renaming", source):
            source.rename(target)

    def sync_directory(self, path: Path) -> None:
        with _translating("syncing directory", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def free_bytes(self, path: Path) -> tuple[int, int]:
        with _translating("measuring", path):
            found = os.statvfs(path)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def is_read_only(self, path: Path) -> bool:
        with _translating("measuring", path):
            return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def write_durably(files: Files, path: Path, content: Buffer) -> None:
    """The recipe of `Files.write_durably` over the other methods of any twin."""
    temporary = path.with_name(f".{path.name}.new")
    file = files.open(temporary, create=True)
    try:
        file.truncate(0)
        file.write_at(0, [content])
        file.sync()
    finally:
        file.close()
    files.rename(temporary, path)
    files.sync_directory(path.parent)


def _write_rest(descriptor: int, offset: int, buffers: Sequence[Buffer], written: int) -> None:
    """Write what is left of `buffers` after `written` bytes, in groups the system call takes."""
    position, skip = offset + written, written
    rest: list[Buffer] = []
    for buffer in buffers:
        if skip >= len(buffer):
            skip -= len(buffer)
            continue
        rest.append(memoryview(buffer)[skip:] if skip else buffer)
        skip = 0
    while rest:
        count = os.pwritev(descriptor, rest[:BUFFERS_PER_CALL_MAX], position)
        position += count
        while rest and count >= len(rest[0]):
            count -= len(rest.pop(0))
        if rest and count:
            rest[0] = memoryview(rest[0])[count:]
