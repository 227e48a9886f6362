"""SQLite's files in recording mode: an APSW VFS over the default one that feeds the same undo log as the file port.

Open databases with `vfs=RECORDING_VFS` after making one `RecordingVfs` and keeping it. Only for tests of power loss.
The shared memory of WAL mode is not recorded: SQLite rebuilds it after a crash.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from dwd.runtime.undo_log import FileUndo, UndoLog

RECORDING_VFS = "dwd-recording"

_DIRECTORY_SYNCED = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL


class RecordingVfs(apsw.VFS):
    """Registered under `name` while it lives. `base` is the VFS that does the work, empty for the system's."""

    def __init__(self, undo: UndoLog, name: str = RECORDING_VFS, *, base: str = "") -> None:
        self._undo = undo
        self._base = base
        super().__init__(name, base)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _RecordingVfsFile(self._undo, self._base, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        path = Path(filename)
        if path.exists():
            self._undo.removing(path)
        super().xDelete(filename, syncdir)
        if syncdir:
            self._undo.names_synced(path.parent)


class _RecordingVfsFile(apsw.VFSFile):
    def __init__(self, undo: UndoLog, base: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        filename = name.filename() if isinstance(name, apsw.URIFilename) else name
        path = Path(filename) if filename else None
        creating = path is not None and not path.exists()
        if path is not None and creating:
            undo.created(path)
        super().__init__(base, name, flags)
        syncs_directory = path is not None and creating and flags[0] & _DIRECTORY_SYNCED
        self._created_in = path.parent if path is not None and syncs_directory else None
        self._undo = undo
        # A name of None is a temporary file: nobody expects it to survive.
        self._log: FileUndo | None = undo.file(path) if path is not None else None

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._log is None:
            super().xWrite(data, offset)
            return
        with self._log.lock:
            self._log.before(offset, len(data))
            super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        if self._log is None:
            super().xTruncate(newsize)
            return
        with self._log.lock:
            self._log.before(newsize, None)
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """SQLite's own VFS syncs the directory with the first sync of a journal it made."""
        if self._log is None:
            super().xSync(flags)
            return
        with self._log.lock:
            super().xSync(flags)
            self._log.synced()
        if self._created_in is not None:
            self._undo.names_synced(self._created_in)
            self._created_in = None
