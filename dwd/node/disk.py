"""How a node reaches its disks: the file port and the SQLite VFS.

Recording mode is a testing aid (`dwd run --record-unsynced DIR`): it remembers how to take back what was not synced, so
that a test can kill the daemon and cut its power (dwd.runtime.undo_log). Otherwise nothing of it is in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dwd.config.settings import Settings
from dwd.runtime.files import Files
from dwd.runtime.os_files import OsFiles
from dwd.runtime.recording_files import RecordingFiles
from dwd.runtime.recording_vfs import RECORDING_VFS, RecordingVfs
from dwd.runtime.undo_log import UndoLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """`vfs` is empty for the system's; `holder` is kept alive as long as it is registered."""

    files: Files
    vfs: str = ""
    holder: object = None


SYSTEM_DISK = Disk(files=OsFiles())


def recording_disk(settings: Settings, directory: Path, *, ignoring: Sequence[Path] = ()) -> Disk:
    """Everything below the data directory and the devices is recorded in `directory`, which must be empty and lie
    outside of them. Syncs at or below `ignoring` are ignored, as by a disk that lies.
    """
    roots = [settings.node.data_dir, *(device.path for device in settings.devices)]
    undo = UndoLog(directory, roots, ignoring=ignoring)
    return Disk(files=RecordingFiles(undo), vfs=RECORDING_VFS, holder=RecordingVfs(undo))
