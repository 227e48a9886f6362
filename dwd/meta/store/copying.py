"""A copy of a database while it is being written: SQLite's backup, at full speed, from a read transaction of its own.

The transaction is held from the position read to the last page, so the copy is of that instant; it ends with the copy,
for it keeps checkpoints from moving the WAL whole. The copy is for sending: no sync, no journal, nothing to recover.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw

from dwd.base.errors import NoSpace
from dwd.base.units import MIB
from dwd.meta.store import database
from dwd.raft.core.types import SnapshotMeta

SPACE_LEFT_BYTES = 64 * MIB
"""Free space that a copy must leave."""
PAGES_A_STEP = 4_096
"""Other users of the disk and of the interpreter get their turn in between."""


def copy_database(path: Path, target: Path, *, vfs: str) -> SnapshotMeta:
    """Write a copy of `path` to `target`; where it stands. Blocking. Raises NoSpace, Corrupt, apsw.Error."""
    target.unlink(missing_ok=True)
    source = database.connect_reader(path, vfs=vfs)
    try:
        source.execute("BEGIN")
        position = database.read_position(source)
        _require_space(target.parent, database.size(source))
        copy = apsw.Connection(str(target), vfs=vfs or None)
        try:
            copy.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").fetchall()
            with copy.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(PAGES_A_STEP)
        finally:
            copy.close()
    finally:
        source.close()
    return position


def _require_space(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < size + SPACE_LEFT_BYTES:
        raise NoSpace("meta.no_space", "no space for a copy of the database", free_bytes=free, needed_bytes=size)
