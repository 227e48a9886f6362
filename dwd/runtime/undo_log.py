"""Remembers how to take back what was not synced, so that a test can cut the power of real processes.

A killed process leaves everything it wrote in the page cache: that proves nothing about syncs. In recording mode each
change saves first, under an undo directory, what was there before; a sync forgets it. After a kill `drop_unsynced`
puts the saved bytes and names back, as if the machine had lost power. Never on in production: every write costs more.
Syncs of chosen directories can be ignored, as by a disk that lies: a test that finds no loss then proves nothing.

Layout of the undo directory:
    data-N    0 inode u64 | then records: size before u64 | offset u64 | length u32 | crc32 u32 | the old bytes
    names     one line of JSON for each change of names: what to do to take it back
    saved-N   a file that was removed or replaced
    roots     the directories that hold the data, one a line
Hazard: a record cut short by the kill is ignored: the change it was to precede had not begun.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dwd.base.clock import Rng

SECTOR_BYTES = 512
"""What a disk writes as a whole."""

_INODE = struct.Struct(">Q")
_RECORD = struct.Struct(">QQII")
_NAMES = "names"
_ROOTS = "roots"


@dataclass(frozen=True, slots=True, kw_only=True)
class _NameUndo:
    """Take back one change: `created` goes, `moved_to` returns to `moved_from`, `saved` returns to `restore_to`."""

    directories: tuple[str, ...]
    created: str = ""
    moved_from: str = ""
    moved_to: str = ""
    saved: str = ""
    restore_to: str = ""


class FileUndo:
    """The undo log of one file's content."""

    def __init__(self, log: Path, path: Path, *, lying: bool) -> None:
        """`lying`: syncs are as if they had never come."""
        self.lock = threading.RLock()
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        """Its own handle, so that it follows the file through renames."""
        self._log = os.open(log, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _ = os.pwrite(self._log, _INODE.pack(os.fstat(self._file).st_ino), 0)
        self._end = _INODE.size
        self._lying = lying

    def before(self, offset: int, length: int | None) -> None:
        """Bytes [offset, offset + length) are about to change; None: all from `offset` on."""
        size = os.fstat(self._file).st_size
        wanted = max(0, size - offset) if length is None else length
        old = os.pread(self._file, wanted, offset) if wanted else b""
        fixed = struct.pack(">QQI", size, offset, len(old))
        record = fixed + zlib.crc32(old, zlib.crc32(fixed)).to_bytes(4, "big") + old
        self._end += os.pwrite(self._log, record, self._end)

    def synced(self) -> None:
        """The file was synced: what came before can no longer be lost."""
        if not self._lying:
            self._forget()

    def close(self) -> None:
        self._forget()
        os.close(self._log)
        os.close(self._file)

    def _forget(self) -> None:
        os.ftruncate(self._log, _INODE.size)
        self._end = _INODE.size


class UndoLog:
    """Records for one process. Its directory must be empty and on the data's file system, best in memory."""

    def __init__(self, directory: Path, roots: Sequence[Path], *, ignoring: Sequence[Path] = ()) -> None:
        """`roots` hold all the data that is recorded; `directory` lies outside of them. Syncs at or below `ignoring`
        do not count.
        """
        directory.mkdir(parents=True, exist_ok=True)
        _ = (directory / _ROOTS).write_text("".join(f"{root}\n" for root in roots))
        self._directory = directory
        self._ignoring = tuple(ignoring)
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._files: dict[tuple[int, int], FileUndo] = {}
        self._names: list[_NameUndo] = []

    def file(self, path: Path) -> FileUndo:
        """The log of the file at `path`, shared by all that have it open. Hold its lock while changing or syncing."""
        found = path.stat()
        with self._lock:
            key = (found.st_dev, found.st_ino)
            if key not in self._files:
                log = self._directory / f"data-{next(self._numbers)}"
                self._files[key] = FileUndo(log, path, lying=self._lies(path))
            return self._files[key]

    def created(self, path: Path) -> None:
        self._note(_NameUndo(directories=(str(path.parent),), created=str(path)))

    def removing(self, path: Path) -> None:
        """Call before `path` is removed."""
        self._note(_NameUndo(directories=(str(path.parent),), saved=self._save(path), restore_to=str(path)))

    def renaming(self, source: Path, target: Path) -> None:
        """Call before `source` becomes `target`."""
        saved = self._save(target) if target.exists() else ""
        self._note(
            _NameUndo(
                directories=tuple(sorted({str(source.parent), str(target.parent)})),
                moved_from=str(source),
                moved_to=str(target),
                saved=saved,
                restore_to=str(target) if saved else "",
            )
        )

    def names_synced(self, directory: Path) -> None:
        """Call after `directory` was synced."""
        if self._lies(directory):
            return
        with self._lock:
            gone = [undo for undo in self._names if str(directory) in undo.directories]
            self._names = [undo for undo in self._names if str(directory) not in undo.directories]
            fresh = self._directory / f"{_NAMES}.new"
            _ = fresh.write_text("".join(json.dumps(asdict(undo)) + "\n" for undo in self._names))
            _ = fresh.replace(self._directory / _NAMES)
            for undo in gone:
                if undo.saved:
                    self._release(Path(undo.saved))

    def _lies(self, path: Path) -> bool:
        return any(path.is_relative_to(ignored) for ignored in self._ignoring)

    def _release(self, saved: Path) -> None:
        """A removal became durable: its inode number may come back as another file's."""
        found = saved.stat()
        log = self._files.get((found.st_dev, found.st_ino))
        if log is not None and found.st_nlink == 1:
            log.close()
            del self._files[(found.st_dev, found.st_ino)]
        saved.unlink()

    def _save(self, path: Path) -> str:
        with self._lock:
            saved = self._directory / f"saved-{next(self._numbers)}"
        try:
            os.link(path, saved)
        except OSError:
            _ = shutil.copyfile(path, saved)
        return str(saved)

    def _note(self, undo: _NameUndo) -> None:
        with self._lock:
            self._names.append(undo)
            with (self._directory / _NAMES).open("a") as file:
                _ = file.write(json.dumps(asdict(undo)) + "\n")


def drop_unsynced(directory: Path, rng: Rng | None = None) -> int:
    """Lose power: put back, from a dead process's undo directory, everything it had not synced; how many changes.

    With `rng` each file loses all, nothing or only its last unsynced writes, the first one lost is torn (some of its
    sectors stay), and names are lost or not from some point on, as a disk might have it. The undo directory is removed.
    """
    names = _read_names(directory)
    kept = rng.below(len(names) + 1) if rng is not None and rng.below(2) else 0
    paths = _paths_by_inode(directory)
    dropped = 0
    for log in sorted(directory.glob("data-*")):
        content = log.read_bytes()
        if len(content) < _INODE.size:
            continue
        path = paths.get(_INODE.unpack_from(content)[0])
        records = list(_records(content))
        first = rng.below(len(records) + 1) if rng is not None and records else 0
        if path is not None:
            dropped += _take_back(path, records[first:], rng)
    for undo in reversed(names[kept:]):
        _take_back_names(undo)
        dropped += 1
    shutil.rmtree(directory)
    return dropped


def _records(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(size before, offset, old bytes), up to the first record that is cut short."""
    at = _INODE.size
    while at + _RECORD.size <= len(content):
        size, offset, length, crc = _RECORD.unpack_from(content, at)
        end = at + _RECORD.size + length
        old = content[at + _RECORD.size : end]
        if len(old) != length or zlib.crc32(old, zlib.crc32(content[at : at + 20])) != crc:
            return
        yield size, offset, old
        at = end


def _take_back(path: Path, records: Sequence[tuple[int, int, bytes]], rng: Rng | None) -> int:
    with path.open("r+b", buffering=0) as file:
        for number, (size, offset, old) in reversed([*enumerate(records)]):
            if number == 0 and rng is not None:
                _tear(file.fileno(), offset, old, rng)
            else:
                _ = os.pwrite(file.fileno(), old, offset)
            os.ftruncate(file.fileno(), size)
    return len(records)


def _tear(descriptor: int, offset: int, old: bytes, rng: Rng) -> None:
    """Only some of the write's sectors are as before. What it added beyond the file's end is lost with the size."""
    at = 0
    while at < len(old):
        end = min(len(old), at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES)
        if rng.below(2):
            _ = os.pwrite(descriptor, old[at:end], offset + at)
        at = end


def _take_back_names(undo: _NameUndo) -> None:
    if undo.created:
        Path(undo.created).unlink(missing_ok=True)
    if undo.moved_from and Path(undo.moved_to).exists():
        _ = Path(undo.moved_to).replace(undo.moved_from)
    if undo.saved and Path(undo.saved).exists():
        _ = shutil.move(undo.saved, undo.restore_to)


def _read_names(directory: Path) -> list[_NameUndo]:
    path = directory / _NAMES
    undos: list[_NameUndo] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            fields = json.loads(line)
        except ValueError:
            break
        undos.append(_NameUndo(**{**fields, "directories": tuple(fields["directories"])}))
    return undos


def _paths_by_inode(directory: Path) -> dict[int, Path]:
    """Where each inode can be reached now: under the recorded roots, or saved."""
    candidates = [*directory.glob("saved-*")]
    for root in (directory / _ROOTS).read_text().splitlines():
        candidates += [path for path in Path(root).rglob("*") if path.is_file()]
    return {path.stat().st_ino: path for path in candidates}
