"""Where each fragment of a device lies: SQLite, a cache of what the volumes say.

Every change is first in the volumes and durable there; here it is noted in memory and flushed in batches together
with the place in the volumes up to which the index is complete. After a crash the rest is read from the volumes.

Invariants: the table never holds more than what lies before the checkpoint stored in the same transaction.
Threads: `overlay` and `note_*` belong to the event loop; `find`, `flush` and the scans run on worker threads.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from dwd.base.errors import StorageFailed
from dwd.base.ids import BlockId
from dwd.blocks.volumes.fragment import FragmentKey

SCHEMA_VERSION = 1
APPLICATION_ID = 0x64776278
FLUSH_ROWS_MAX = 2_000
"""Rows of one transaction: readers wait for it."""

_OFFSET_BITS = 40
"""Volumes are smaller than 2^40 bytes, and there are fewer than 2^24 of them."""

_SCHEMA = """
CREATE TABLE fragments (
    block BLOB NOT NULL, idx INTEGER NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, head INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (block, idx)) WITHOUT ROWID;
CREATE TABLE checkpoint (one INTEGER PRIMARY KEY CHECK (one = 1), journal BLOB, segment INTEGER, offset INTEGER,
    sequence INTEGER);
"""
_PLACE_OF = "SELECT segment, offset, head, length FROM fragments WHERE block = ? AND idx = ?"


@dataclass(frozen=True, slots=True)
class Place:
    """A fragment's frame: its head of `head` bytes at `offset` of volume `segment`, then `length` bytes of its own."""

    segment: int
    offset: int
    head: int
    length: int

    @property
    def bytes(self) -> int:
        return self.head + self.length

    @property
    def copy(self) -> int:
        """Tells this copy of a fragment from any other written here: 64 bits."""
        return self.segment << _OFFSET_BITS | self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """All batches of the volumes before this place are in the table. `sequence` is that of the batch at the place."""

    segment: int
    offset: int
    sequence: int


class FragmentIndex:
    def __init__(self, path: str, journal: bytes, *, vfs: str = "") -> None:
        """Open or make the table of the volumes with that journal id; any other content is thrown away. `vfs` names a
        registered SQLite VFS, empty for the system's.
        """
        self._lock = threading.Lock()
        self._journal = journal
        self._live: dict[int, tuple[int, int]] | None = None
        try:
            self._db = apsw.Connection(path, vfs=vfs or None)
            self._prepare()
        except apsw.Error as error:
            raise StorageFailed("blocks.index", f"fragment index cannot be opened: {error}") from error

    def find(self, key: FragmentKey) -> Place | None:
        with self._using():
            row = self._db.execute(_PLACE_OF, (key.block, key.index)).fetchone()
        return None if row is None else Place(*row)

    def of_block(self, block: BlockId) -> list[tuple[int, Place]]:
        with self._using():
            rows: list[Any] = self._db.execute(
                "SELECT idx, segment, offset, head, length FROM fragments WHERE block = ?", (block,)
            ).fetchall()
        return [(row[0], Place(*row[1:])) for row in rows]

    def page(self, after: FragmentKey, limit: int, before: bytes) -> list[tuple[FragmentKey, Place]]:
        """Fragments after `after` in order of age, of blocks whose ids begin below `before`."""
        with self._using():
            rows: list[Any] = self._db.execute(
                "SELECT block, idx, segment, offset, head, length FROM fragments"
                " WHERE (block, idx) > (?, ?) AND block < ? ORDER BY block, idx LIMIT ?",
                (after.block, after.index, before, limit),
            ).fetchall()
        return [(FragmentKey(BlockId(row[0]), row[1]), Place(*row[2:])) for row in rows]

    def checkpoint(self) -> Checkpoint | None:
        with self._using():
            row = self._db.execute("SELECT journal, segment, offset, sequence FROM checkpoint").fetchone()
        if row is None or row[0] != self._journal:
            return None
        return Checkpoint(segment=row[1], offset=row[2], sequence=row[3])

    def flush(self, changes: Sequence[tuple[FragmentKey, Place | None]], checkpoint: Checkpoint | None) -> None:
        """Apply `changes`; the checkpoint comes with the last of them."""
        pieces = [changes[at : at + FLUSH_ROWS_MAX] for at in range(0, len(changes), FLUSH_ROWS_MAX)] or [()]
        for number, piece in enumerate(pieces, 1):
            with self._using():
                live = dict(self._counted())
                self._live = None  # until this piece is in: a failed transaction leaves nothing to go by
                with self._db:
                    self._count(live, piece)
                    self._store(piece, checkpoint if number == len(pieces) else None)
                self._live = live

    def _store(self, piece: Sequence[tuple[FragmentKey, Place | None]], checkpoint: Checkpoint | None) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO fragments VALUES (?, ?, ?, ?, ?, ?)",
            [(k.block, k.index, p.segment, p.offset, p.head, p.length) for k, p in piece if p is not None],
        )
        self._db.executemany(
            "DELETE FROM fragments WHERE block = ? AND idx = ?",
            [(k.block, k.index) for k, p in piece if p is None],
        )
        if checkpoint is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?, ?, ?)",
                (self._journal, checkpoint.segment, checkpoint.offset, checkpoint.sequence),
            )

    def clear(self) -> None:
        with self._using(), self._db:
            self._live = None
            self._db.execute("DELETE FROM fragments")
            self._db.execute("DELETE FROM checkpoint")

    def live(self) -> Mapping[int, tuple[int, int]]:
        """Fragments and bytes in use by volume. Counted once, then kept."""
        with self._using():
            return dict(self._counted())

    def _counted(self) -> Mapping[int, tuple[int, int]]:
        if self._live is None:
            rows: list[Any] = self._db.execute(
                "SELECT segment, count(*), sum(head + length) FROM fragments GROUP BY segment"
            ).fetchall()
            self._live = {row[0]: (row[1], row[2]) for row in rows}
        return self._live

    def _count(self, live: dict[int, tuple[int, int]], piece: Sequence[tuple[FragmentKey, Place | None]]) -> None:
        """What storing `piece` will do to the counts."""
        for key, place in piece:
            row = self._db.execute(_PLACE_OF, (key.block, key.index)).fetchone()
            if row is not None:
                count, size = live.get(row[0], (0, 0))
                live[row[0]] = (count - 1, size - row[2] - row[3])
            if place is not None:
                count, size = live.get(place.segment, (0, 0))
                live[place.segment] = (count + 1, size + place.bytes)
        for segment in [segment for segment, (count, _) in live.items() if count == 0]:
            del live[segment]

    def segments(self) -> Iterator[int]:
        return iter(self.live())

    def close(self) -> None:
        with self._using():
            self._db.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """One thread at a time, SQLite's errors as ours."""
        with self._lock:
            try:
                yield
            except apsw.Error as error:
                raise StorageFailed("blocks.index", f"fragment index: {error}") from error

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        version = next(iter(self._db.execute("PRAGMA user_version").fetchone() or (0,)))
        application = next(iter(self._db.execute("PRAGMA application_id").fetchone() or (0,)))
        if (self._db.execute("PRAGMA quick_check(1)").fetchone() or ("",))[0] != "ok":
            raise apsw.CorruptError("quick_check")
        with self._db:
            if (version, application) != (SCHEMA_VERSION, APPLICATION_ID):
                self._db.execute("DROP TABLE IF EXISTS fragments; DROP TABLE IF EXISTS checkpoint")
                self._db.execute(_SCHEMA)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            row = self._db.execute("SELECT journal FROM checkpoint").fetchone()
            if row is not None and row[0] != self._journal:
                self._db.execute("DELETE FROM fragments")
                self._db.execute("DELETE FROM checkpoint")
