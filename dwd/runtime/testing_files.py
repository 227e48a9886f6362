"""Twins of the file port for tests and the simulator: one that forgets what was not synced, one that fails on demand.

The model of `MemoryFiles.power_loss` is harsher than most file systems: every unsynced write survives sector by
sector or not at all, in any order; changes of size likewise; each directory change since its `sync_directory` too. A
rename is atomic. What was synced survives whole.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from dwd.base.clock import Rng
from dwd.base.errors import NoSpace, StorageFailed
from dwd.base.units import GIB
from dwd.runtime.files import Buffer, File, Files
from dwd.runtime.os_files import write_durably
from dwd.runtime.testing_inodes import Inode, NameChange, Resize, Write, after_power_loss, apply_content, apply_names


class MemoryFiles:
    """A file system in memory that can lose power. Safe for use from several threads."""

    def __init__(self, *, capacity_bytes: int = GIB) -> None:
        self.lock = threading.RLock()
        self.life = 0
        """Rises with every crash; files opened in an earlier life refuse everything."""
        self.capacity_bytes = capacity_bytes
        self._names: dict[Path, Inode] = {}
        self._durable_names: dict[Path, Inode] = {}
        self._changes: list[NameChange] = []
        self._directories: set[Path] = {Path("/")}

    def open(self, path: Path, *, create: bool = False, writable: bool = True) -> File:
        del writable
        with self.lock:
            inode = self._names.get(path)
            if inode is None:
                if not create:
                    raise _missing(path)
                self._check_directory(path.parent)
                inode = Inode()
                self._change(NameChange(directories=frozenset({path.parent}), links=((path, inode),)))
            return _MemoryFile(self, inode, path)

    def read(self, path: Path) -> bytes:
        with self.lock:
            return bytes(self._inode(path).seen)

    def write_durably(self, path: Path, content: Buffer) -> None:
        write_durably(self, path, content)

    def list(self, path: Path) -> list[str]:
        with self.lock:
            self._check_directory(path)
            inside = [p for p in (*self._names, *self._directories) if p.parent == path and p != path]
            return sorted(p.name for p in inside)

    def exists(self, path: Path) -> bool:
        with self.lock:
            return path in self._names or path in self._directories

    def make_directory(self, path: Path) -> None:
        with self.lock:
            self._directories.update((path, *path.parents))

    def remove(self, path: Path) -> None:
        with self.lock:
            _ = self._inode(path)
            self._change(NameChange(directories=frozenset({path.parent}), unlinks=(path,)))

    def rename(self, source: Path, target: Path) -> None:
        with self.lock:
            inode = self._inode(source)
            self._check_directory(target.parent)
            parents = frozenset({source.parent, target.parent})
            self._change(NameChange(directories=parents, links=((target, inode),), unlinks=(source,)))

    def sync_directory(self, path: Path) -> None:
        with self.lock:
            self._check_directory(path)
            kept: list[NameChange] = []
            for change in self._changes:
                if path in change.directories:
                    apply_names(self._durable_names, change)
                else:
                    kept.append(change)
            self._changes = kept

    def free_bytes(self, path: Path) -> tuple[int, int]:
        del path
        return max(0, self.capacity_bytes - self.used_bytes()), self.capacity_bytes

    def is_read_only(self, path: Path) -> bool:
        del path
        return False

    def used_bytes(self) -> int:
        with self.lock:
            return sum(len(inode.seen) for inode in {id(i): i for i in self._names.values()}.values())

    def flip(self, path: Path, offset: int, mask: int = 1) -> None:
        """Rot: change bits of one byte, on the device and in what is read."""
        with self.lock:
            inode = self._inode(path)
            for content in (inode.seen, inode.durable):
                if offset < len(content):
                    content[offset] ^= mask

    def process_crash(self) -> None:
        """The process died, the machine did not: everything written is still seen, open files are gone."""
        with self.lock:
            self.life += 1

    def power_loss(self, rng: Rng) -> None:
        """Everything not synced is lost, or not, or in part. Open files are gone."""
        with self.lock:
            self.life += 1
            for change in self._changes:
                if rng.below(2):
                    apply_names(self._durable_names, change)
            self._changes = []
            self._names = dict(self._durable_names)
            for inode in {id(i): i for i in self._names.values()}.values():
                inode.durable = after_power_loss(inode, rng)
                inode.seen = bytearray(inode.durable)
                inode.unsynced = []

    def _change(self, change: NameChange) -> None:
        apply_names(self._names, change)
        self._changes.append(change)

    def is_linked(self, inode: Inode) -> bool:
        return any(named is inode for named in self._names.values())

    def _inode(self, path: Path) -> Inode:
        inode = self._names.get(path)
        if inode is None:
            raise _missing(path)
        return inode

    def _check_directory(self, path: Path) -> None:
        if path not in self._directories:
            raise _missing(path)


class _MemoryFile:
    def __init__(self, files: MemoryFiles, inode: Inode, path: Path) -> None:
        self._files = files
        self._inode = inode
        self._path = path
        self._life = files.life
        self._closed = False

    def write_at(self, offset: int, buffers: Sequence[Buffer]) -> int:
        content = b"".join(buffers)
        with self._files.lock:
            self._check()
            self._reserve(offset + len(content))
            if content:
                change = Write(offset=offset, content=content)
                apply_content(self._inode.seen, change)
                self._inode.unsynced.append(change)
        return len(content)

    def read_at(self, offset: int, length: int) -> bytes:
        with self._files.lock:
            self._check()
            return bytes(self._inode.seen[offset : offset + length])

    def sync(self) -> None:
        with self._files.lock:
            self._check()
            inode = self._inode
            for change in inode.unsynced:
                apply_content(inode.durable, change)
            inode.unsynced = []
            if not self._files.is_linked(inode):
                raise _missing(self._path)

    def allocate(self, length: int) -> None:
        with self._files.lock:
            self._check()
            if length > len(self._inode.seen):
                self._reserve(length)
                self._resize(length)

    def truncate(self, length: int) -> None:
        with self._files.lock:
            self._check()
            self._reserve(length)
            self._resize(length)

    def size(self) -> int:
        with self._files.lock:
            self._check()
            return len(self._inode.seen)

    def drop_cache(self, offset: int, length: int) -> None:
        """What is seen here is what the device has."""

    def close(self) -> None:
        self._closed = True

    def _resize(self, length: int) -> None:
        change = Resize(length=length)
        apply_content(self._inode.seen, change)
        self._inode.unsynced.append(change)

    def _reserve(self, end: int) -> None:
        growth = end - len(self._inode.seen)
        if growth > 0 and self._files.used_bytes() + growth > self._files.capacity_bytes:
            raise NoSpace("storage.no_space", f"no space left while writing {self._path}", errno="ENOSPC")

    def _check(self) -> None:
        if self._closed or self._life != self._files.life:
            raise StorageFailed("storage.failed", f"EBADF while using {self._path}", errno="EBADF")


class FaultyFiles:
    """Wraps another file system and fails as told. Set the attributes at any time, from any thread."""

    def __init__(self, inner: Files) -> None:
        self.inner = inner
        self.space_bytes: int | None = None
        """Bytes that may still be written or allocated before NoSpace; None: no limit."""
        self.steps: int | None = None
        """Changing operations that may still be done. The one after them is done in part, then nothing works."""
        self.dead = False
        self.sync_fails = False
        self.failing_writes = 0
        """How many of the next writes fail, half done."""
        self.read_fails = False
        self.failing_ranges: dict[Path, tuple[int, int]] = {}
        """Sectors that cannot be read: offsets from, to."""
        self.read_only = False
        """The file system was remounted: reads go on."""
        self.before_sync: Callable[[], None] | None = None
        """Called before every sync of a file: wait in it for a slow device."""
        self.read_flips: dict[Path, dict[int, int]] = {}
        """Masks by path and offset, applied to what is read."""

    def open(self, path: Path, *, create: bool = False, writable: bool = True) -> File:
        self.check()
        if writable and self.read_only:
            raise _refused(f"opening {path}")
        if create and not self.inner.exists(path):
            self.step()
        return _FaultyFile(self, self.inner.open(path, create=create, writable=writable), path)

    def read(self, path: Path) -> bytes:
        file = self.open(path, writable=False)
        try:
            return file.read_at(0, file.size())
        finally:
            file.close()

    def write_durably(self, path: Path, content: Buffer) -> None:
        write_durably(self, path, content)

    def list(self, path: Path) -> list[str]:
        self.check()
        return self.inner.list(path)

    def exists(self, path: Path) -> bool:
        return self.inner.exists(path)

    def make_directory(self, path: Path) -> None:
        self.check()
        self.inner.make_directory(path)

    def remove(self, path: Path) -> None:
        self.step()
        self.inner.remove(path)

    def rename(self, source: Path, target: Path) -> None:
        self.step()
        self.inner.rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self.step()
        self.inner.sync_directory(path)

    def free_bytes(self, path: Path) -> tuple[int, int]:
        available, total = self.inner.free_bytes(path)
        return (available if self.space_bytes is None else min(available, self.space_bytes)), total

    def is_read_only(self, path: Path) -> bool:
        return self.read_only or self.inner.is_read_only(path)

    def check(self) -> None:
        if self.dead:
            raise _failed("the machine stopped")

    def step(self) -> None:
        """Count a changing operation. Raises StorageFailed when it is one too many."""
        self.check()
        if self.read_only:
            raise _refused("writing")
        if self.steps is not None:
            if self.steps == 0:
                self.dead = True
                raise _failed("the machine stopped")
            self.steps -= 1

    def take_space(self, growth: int) -> int:
        """How much of `growth` fits; the rest is to be refused."""
        if self.space_bytes is None:
            return growth
        taken = min(growth, self.space_bytes)
        self.space_bytes -= taken
        return taken


class _FaultyFile:
    def __init__(self, files: FaultyFiles, inner: File, path: Path) -> None:
        self._files = files
        self._inner = inner
        self._path = path

    def write_at(self, offset: int, buffers: Sequence[Buffer]) -> int:
        content = b"".join(buffers)
        try:
            self._files.step()
        except StorageFailed:
            if self._files.steps == 0 and content:
                # The machine stopped inside this write.
                _ = self._inner.write_at(offset, [content[: len(content) // 2]])
                self._files.steps = -1
            raise
        if self._files.failing_writes > 0:
            self._files.failing_writes -= 1
            _ = self._inner.write_at(offset, [content[: len(content) // 2]])
            raise _failed(f"writing {self._path}")
        growth = max(0, offset + len(content) - self._inner.size())
        fits = len(content) - growth + self._files.take_space(growth)
        written = self._inner.write_at(offset, [content[:fits]])
        if fits < len(content):
            raise NoSpace("storage.no_space", f"no space left while writing {self._path}", errno="ENOSPC")
        return written

    def read_at(self, offset: int, length: int) -> bytes:
        self._files.check()
        begin, end = self._files.failing_ranges.get(self._path, (0, 0))
        if self._files.read_fails or (offset < end and begin < offset + length):
            raise _failed(f"reading {self._path}")
        content = bytearray(self._inner.read_at(offset, length))
        for at, mask in self._files.read_flips.get(self._path, {}).items():
            if offset <= at < offset + len(content):
                content[at - offset] ^= mask
        return bytes(content)

    def sync(self) -> None:
        if self._files.before_sync is not None:
            self._files.before_sync()
        self._files.step()
        if self._files.sync_fails:
            raise _failed(f"syncing {self._path}")
        self._inner.sync()

    def allocate(self, length: int) -> None:
        self._files.step()
        growth = max(0, length - self._inner.size())
        if self._files.take_space(growth) < growth:
            raise NoSpace("storage.no_space", f"no space left while allocating {self._path}", errno="ENOSPC")
        self._inner.allocate(length)

    def truncate(self, length: int) -> None:
        self._files.step()
        if self._files.space_bytes is not None:
            self._files.space_bytes += max(0, self._inner.size() - length)
        self._inner.truncate(length)

    def size(self) -> int:
        self._files.check()
        return self._inner.size()

    def drop_cache(self, offset: int, length: int) -> None:
        self._inner.drop_cache(offset, length)

    def close(self) -> None:
        self._inner.close()


def _missing(path: Path) -> StorageFailed:
    return StorageFailed("storage.failed", f"ENOENT: {path}", errno=errno.errorcode[errno.ENOENT])


def _refused(doing: str) -> StorageFailed:
    return StorageFailed("storage.failed", f"EROFS while {doing}", errno=errno.errorcode[errno.EROFS])


def _failed(doing: str) -> StorageFailed:
    return StorageFailed("storage.failed", f"EIO while {doing}", errno=errno.errorcode[errno.EIO])
