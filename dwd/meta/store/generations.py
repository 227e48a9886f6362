r"""Which of a group's databases is live: generation directories and one fsynced file that names the live one.

    <group>/CURRENT            "gen-00000003\n"
    <group>/gen-00000003/state.db (and SQLite's -wal, -shm)
    <group>/gen-00000003/QUARANTINE (why this state is not to be trusted; mostly absent)

Invariant: a database file keeps its directory for life. One is never renamed over another: a left-over -wal would be
replayed into it (raft.md section 3).
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from dwd.base.errors import Corrupt
from dwd.runtime.files import Files

CURRENT = "CURRENT"
DATABASE = "state.db"
QUARANTINE = "QUARANTINE"
"""Beside the database of a generation that is not to be trusted; says why. It goes when its generation does."""
_NAME = re.compile(r"gen-(\d{8})")


class Generations:
    def __init__(self, directory: Path, files: Files) -> None:
        self._directory = directory
        self._files = files

    def live(self) -> Path | None:
        """The live database's path; None when there never was one. Raises Corrupt when it is named but not there."""
        pointer = self._directory / CURRENT
        if not self._files.exists(pointer):
            return None
        name = self._files.read(pointer).decode(errors="replace").strip()
        if _NAME.fullmatch(name) is None:
            raise Corrupt("meta.current_malformed", f"{pointer} names no generation")
        path = self._directory / name / DATABASE
        if not self._files.exists(path):
            raise Corrupt("meta.database_missing", f"{path} is not there")
        return path

    def databases(self) -> list[Path]:
        """Every database there is, live or not."""
        paths = [self._directory / name / DATABASE for name in self._names() if _NAME.fullmatch(name) is not None]
        return [path for path in paths if self._files.exists(path)]

    def prepare(self) -> Path:
        """An empty directory for a new database, later than all others; the path its database must have."""
        self._files.make_directory(self._directory)
        numbers = [int(match.group(1)) for name in self._names() if (match := _NAME.fullmatch(name))]
        folder = self._directory / f"gen-{max(numbers, default=0) + 1:08d}"
        self._files.make_directory(folder)
        return folder / DATABASE

    def make_live(self, database: Path) -> None:
        """Durably: the file and its name first, then the pointer."""
        opened = self._files.open(database)
        try:
            opened.sync()
        finally:
            opened.close()
        self._files.sync_directory(database.parent)
        self._files.sync_directory(self._directory)
        self._files.write_durably(self._directory / CURRENT, f"{database.parent.name}\n".encode())

    def quarantine(self, reason: str) -> None:
        """Durably: the live generation is not to be trusted."""
        path = self._require_live().parent / QUARANTINE
        self._files.write_durably(path, reason.encode())

    def quarantined(self) -> str | None:
        path = self._require_live().parent / QUARANTINE
        return self._files.read(path).decode(errors="replace") if self._files.exists(path) else None

    def _require_live(self) -> Path:
        path = self.live()
        if path is None:
            raise Corrupt("meta.database_missing", f"{self._directory} has no live database")
        return path

    def sweep(self) -> None:
        """Remove every generation but the live one."""
        live = self.live()
        for name in self._names():
            folder = self._directory / name
            if _NAME.fullmatch(name) is None or (live is not None and folder == live.parent):
                continue
            self._remove(folder)
            self._files.sync_directory(self._directory)

    def discard(self) -> None:
        """Remove everything, durably; the pointer first, so that a crash leaves nothing half live. What came back after
        a power loss would look like a database whose pointer was lost.
        """
        if not self._files.exists(self._directory):
            return
        pointer = self._directory / CURRENT
        if self._files.exists(pointer):
            self._files.remove(pointer)
            self._files.sync_directory(self._directory)
        self.sweep()

    def _names(self) -> list[str]:
        return self._files.list(self._directory) if self._files.exists(self._directory) else []

    def _remove(self, folder: Path) -> None:
        for name in self._files.list(folder):
            self._files.remove(folder / name)
        self._files.sync_directory(folder)
        with suppress(OSError):  # an empty directory that stays is harmless: its number is never used again
            folder.rmdir()
