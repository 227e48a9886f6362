"""One node's disk: real files in memory (tmpfs) behind the recording twins of the file port and the SQLite VFS.

What was not synced is remembered in both forms, before and after, so that at a power loss each sector of each unsynced
write survives or not, in any order (`dwd.runtime.testing_inodes`), and names are lost from some point on. The power may
fail inside any changing operation: `die_after(n)` counts them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from dwd.base.errors import NoSpace, StorageFailed
from dwd.runtime.files import File
from dwd.runtime.recording_files import RecordingFiles
from dwd.runtime.recording_vfs import RecordingVfs
from dwd.runtime.testing_inodes import Resize, Write, apply_content, sectors
from tests.twins.virtual_time import SeededRng

DATABASE = "state.db"
NOTHING, ALL, PREFIX = range(3)
"""How much of what was not synced survives a power loss; else any of its sectors do."""


class PowerLost(BaseException):
    """Nothing of the process runs after this. Not an Exception: no code may survive it."""


@dataclass(slots=True)
class _Change:
    """`length` None: a cut at `offset`; 0: an extension."""

    size: int
    offset: int
    length: int | None
    old: bytes


@dataclass(slots=True)
class _Rename:
    """`saved`: a second name for what was removed or replaced at `restore_to`."""

    directories: frozenset[Path]
    created: Path | None = None
    moved: tuple[Path, Path] | None = None
    saved: Path | None = None
    restore_to: Path | None = None


class MemoryFileUndo:
    """As `dwd.runtime.undo_log.FileUndo`."""

    lock = nullcontext()

    def __init__(self, disk: SimDisk, path: Path) -> None:
        self._disk = disk
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._database = path.name.startswith(DATABASE)
        self._size: int | None = None
        """As far as it is known without asking."""
        self.changes: list[_Change] = []

    def before(self, offset: int, length: int | None) -> None:
        self._disk.step()
        size = self._size
        if size is None:
            size = os.fstat(self._descriptor).st_size
        if self._disk.full and length != 0 and offset + (length or 0) > size:
            if self._database:
                raise apsw.FullError
            raise NoSpace("storage.no_space", "the simulated disk is full")
        wanted = size - offset if length is None else length
        old = os.pread(self._descriptor, wanted, offset) if wanted > 0 and offset < size else b""
        self.changes.append(_Change(size, offset, length, old))
        self._size = max(size, offset + length) if length else None

    def synced(self) -> None:
        self._disk.step()
        if self._disk.sync_fails:
            if self._database:
                raise apsw.IOError
            raise StorageFailed("storage.failed", "EIO while syncing", errno="EIO")
        self._disk.syncs += 1
        self.changes = []

    def lose(self, rng: SeededRng) -> None:
        """Put the file into one of the states it may have after a power loss."""
        self._size = None
        mood = rng.below(4) if self.changes else ALL
        if mood == ALL:
            self.changes = []
            return
        descriptor, after = self._descriptor, os.fstat(self._descriptor).st_size
        unsynced: list[Write | Resize] = []
        for change in reversed(self.changes):
            if mood == NOTHING:
                pass
            elif change.length:
                unsynced.append(Write(offset=change.offset, content=os.pread(descriptor, change.length, change.offset)))
            else:
                unsynced.append(Resize(length=after))
            if change.old:
                os.pwrite(descriptor, change.old, change.offset)
            os.ftruncate(descriptor, change.size)
            after = change.size
        self.changes = []
        if mood != NOTHING:
            content = bytearray(os.pread(descriptor, after, 0))
            pieces = [piece for change in reversed(unsynced) for piece in sectors(change)]
            kept = rng.below(len(pieces) + 1) if mood == PREFIX else len(pieces)
            for piece in pieces[:kept]:
                if mood == PREFIX or rng.below(2):
                    apply_content(content, piece)
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))

    def close(self) -> None:
        os.close(self._descriptor)


class SimDisk:
    """As `dwd.runtime.undo_log.UndoLog`, and what the world does to it."""

    def __init__(self, root: Path, name: str, rng: SeededRng, on_power_lost: Callable[[], None]) -> None:
        self.root = root
        self.vfs_name = name
        self.dead = False
        self.full = False
        self.sync_fails = False
        self.syncs = 0
        self.operations = 0
        self._rng = rng
        self._on_power_lost = on_power_lost
        self._steps: int | None = None
        self._undos: dict[int, MemoryFileUndo] = {}
        self._names: list[_Rename] = []
        self._numbers = 0
        self._open: list[File] = []
        self._saved = root.parent / f"{root.name}-saved"
        self._saved.mkdir(parents=True)
        root.mkdir(parents=True)
        self.files = _SimFiles(self)
        self.vfs = RecordingVfs(self, name, base="unix-excl")  # type: ignore[arg-type]

    # -- what the recording twins call ----------------------------------------------------------------------------

    def step(self) -> None:
        """A changing operation is about to be done."""
        if self.dead:
            raise PowerLost
        self.operations += 1
        if self._steps is not None:
            self._steps -= 1
            if self._steps < 0:
                self.dead = True
                self._on_power_lost()
                raise PowerLost

    def file(self, path: Path) -> MemoryFileUndo:
        inode = path.stat().st_ino
        undo = self._undos.get(inode)
        if undo is None:
            undo = self._undos[inode] = MemoryFileUndo(self, path)
        return undo

    def created(self, path: Path) -> None:
        self.step()
        self._names.append(_Rename(frozenset({path.parent}), created=path))

    def removing(self, path: Path) -> None:
        self.step()
        self._names.append(_Rename(frozenset({path.parent}), saved=self._save(path), restore_to=path))

    def renaming(self, source: Path, target: Path) -> None:
        self.step()
        saved = self._save(target) if target.exists() else None
        parents = frozenset({source.parent, target.parent})
        self._names.append(_Rename(parents, moved=(source, target), saved=saved, restore_to=target))

    def names_synced(self, directory: Path) -> None:
        self.step()
        self._names = [change for change in self._names if directory not in change.directories]

    # -- what the world does ---------------------------------------------------------------------------------------

    def die_after(self, steps: int) -> None:
        """The power fails inside the changing operation after so many."""
        self._steps = steps

    def power_loss(self) -> None:
        """What was not synced is lost, or not, or in part."""
        self.dead = True
        kept = self._rng.below(len(self._names) + 1) if self._rng.below(2) else 0
        for undo in self._undos.values():
            undo.lose(self._rng)
        for change in reversed(self._names[kept:]):
            _take_back(change)
        self._names = []

    def revive(self) -> None:
        """A new process may use it."""
        self.dead = self.full = self.sync_fails = False
        self._steps = None

    def release(self) -> None:
        """Close what a dead process had open: SQLite's locks are the process's, which is not dead at all."""
        self.dead = True
        for connection in apsw.connections():
            with suppress(BaseException):
                if connection.open_vfs == self.vfs_name:
                    connection.close(True)
        for file in self._open:
            with suppress(Exception):
                file.close()
        self._open = []

    def wipe(self) -> None:
        """An empty disk was put in its place. After `release`."""
        self._forget()
        for path in sorted(self.root.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()

    def flip(self, path: Path, offset: int, mask: int) -> None:
        """Rot."""
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            if byte:
                file.seek(offset)
                file.write(bytes((byte[0] ^ mask,)))

    def close(self) -> None:
        self.release()
        self._forget()
        self.vfs.unregister()

    def opened(self, file: File) -> None:
        self._open.append(file)

    def _forget(self) -> None:
        for undo in self._undos.values():
            undo.close()
        self._undos.clear()
        self._names = []

    def _save(self, path: Path) -> Path:
        self._numbers += 1
        saved = self._saved / str(self._numbers)
        os.link(path, saved)
        return saved


class _SimFiles(RecordingFiles):
    """The file port on a SimDisk."""

    def __init__(self, disk: SimDisk) -> None:
        super().__init__(disk)  # type: ignore[arg-type]
        self._disk = disk

    def open(self, path: Path, *, create: bool = False) -> File:
        if self._disk.dead:
            raise PowerLost
        file = super().open(path, create=create)
        self._disk.opened(file)
        return file


def _take_back(change: _Rename) -> None:
    if change.created is not None:
        change.created.unlink(missing_ok=True)
    if change.moved is not None and change.moved[1].exists():
        change.moved[1].replace(change.moved[0])
    if change.saved is not None and change.restore_to is not None:
        with suppress(OSError):
            change.saved.replace(change.restore_to)
