"""Where each fragment of a device lies: SQLite, a cache of what the volumes say.

Every change is first in the volumes and durable there; here it is noted in memory and flushed in batches together
with the place in the volumes up to which the index is complete. After a crash the rest is read from the volumes.

    fragments   block, idx | segment, offset, head, length       one row a fragment
    places      index of fragments by segment and offset         a volume's fragments in the order they lie
    volumes     segment | fragments, bytes, end                  what lives in a volume; no fragment lies past `end`
    checkpoint  journal, segment, offset, sequence               of one row

Invariants: the table never holds more than what lies before the checkpoint stored in the same transaction; `volumes`
agrees with `fragments` (bar `end`, which never falls).
Opening reads a few pages, however large the index is. That a page is damaged shows when it is used: SQLite says so or
a row makes no sense, and IndexDamaged tells the device to make the index anew. A row that points somewhere else is
found by whoever reads there: fragments tell their own story.
Threads: `find`, `flush` and the scans run on worker threads, one at a time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from dwd.base.errors import NoSpace, StorageFailed
from dwd.base.ids import BLOCK_ID_BYTES, BlockId
from dwd.blocks.volumes.fragment import FragmentKey

SCHEMA_VERSION = 2
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
CREATE INDEX places ON fragments (segment, offset, head, length);
CREATE TABLE volumes (
    segment INTEGER PRIMARY KEY, fragments INTEGER NOT NULL, bytes INTEGER NOT NULL, "end" INTEGER NOT NULL);
CREATE TABLE checkpoint (one INTEGER PRIMARY KEY CHECK (one = 1), journal BLOB, segment INTEGER, offset INTEGER,
    sequence INTEGER);
"""
_PLACE_OF = "SELECT segment, offset, head, length FROM fragments WHERE block = ? AND idx = ?"
_ROW = "SELECT block, idx, segment, offset, head, length FROM fragments"
_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.SQLError, apsw.MismatchError)


class IndexDamaged(StorageFailed):
    """The index is not what was written. The volumes have it all: it is thrown away and made anew."""


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

    @property
    def end(self) -> int:
        return self.offset + self.head + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """All batches of the volumes before this place are in the table. `sequence` is that of the batch at the place."""

    segment: int
    offset: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUse:
    """What lives in one volume. `end`: no fragment the index ever knew reaches further."""

    fragments: int
    bytes: int
    end: int


_EMPTY = VolumeUse(fragments=0, bytes=0, end=0)


class FragmentIndex:
    def __init__(self, path: str, journal: bytes, *, vfs: str = "") -> None:
        """Open or make the table of the volumes with that journal id; any other content is thrown away. `vfs` names a
        registered SQLite VFS, empty for the system's. Raises IndexDamaged, StorageFailed.
        """
        self._lock = threading.Lock()
        self._journal = journal
        self._uses: dict[int, VolumeUse] | None = None
        with _translated():
            self._db = apsw.Connection(path, vfs=vfs or None)
            try:
                self._prepare()
                _ = self._known()
            except BaseException:
                self._db.close()
                raise

    def find(self, key: FragmentKey) -> Place | None:
        with self._using():
            row = self._db.execute(_PLACE_OF, (key.block, key.index)).fetchone()
            return None if row is None else _place(*row)

    def of_block(self, block: BlockId) -> list[tuple[int, Place]]:
        with self._using():
            rows: list[Any] = self._db.execute(f"{_ROW} WHERE block = ?", (block,)).fetchall()
            return [(key.index, place) for key, place in map(_entry, rows)]

    def page(self, after: FragmentKey, limit: int, before: bytes) -> list[tuple[FragmentKey, Place]]:
        """Fragments after `after` in order of age, of blocks whose ids begin below `before`."""
        with self._using():
            rows: list[Any] = self._db.execute(
                f"{_ROW} WHERE (block, idx) > (?, ?) AND block < ? ORDER BY block, idx LIMIT ?",
                (after.block, after.index, before, limit),
            ).fetchall()
            return [_entry(row) for row in rows]

    def lying(self, segment: int, offset: int, limit: int) -> list[tuple[FragmentKey, Place]]:
        """Fragments of one volume from `offset` on, as they lie."""
        with self._using():
            rows: list[Any] = self._db.execute(
                f"{_ROW} WHERE segment = ? AND offset >= ? ORDER BY segment, offset LIMIT ?", (segment, offset, limit)
            ).fetchall()
            return [_entry(row) for row in rows]

    def verify_volume(self, segment: int) -> None:
        """That a volume's fragments are as many as were counted when they came and went. Raises IndexDamaged."""
        with self._using():
            row: Any = self._db.execute("SELECT count(*) FROM fragments WHERE segment = ?", (segment,)).fetchone()
            use = self._known().get(segment, _EMPTY)
        if row[0] != use.fragments:
            raise IndexDamaged("blocks.index_damaged", f"volume {segment}: {row[0]} of {use.fragments} fragments")

    def checkpoint(self) -> Checkpoint | None:
        """None: nothing was ever stored."""
        with self._using():
            row = self._db.execute("SELECT journal, segment, offset, sequence FROM checkpoint").fetchone()
            if row is None or row[0] != self._journal:
                return None
            _sane(*row[1:])
            return Checkpoint(segment=row[1], offset=row[2], sequence=row[3])

    def flush(self, changes: Sequence[tuple[FragmentKey, Place | None]], checkpoint: Checkpoint | None) -> None:
        """Apply `changes`; the checkpoint comes with the last of them."""
        pieces = [changes[at : at + FLUSH_ROWS_MAX] for at in range(0, len(changes), FLUSH_ROWS_MAX)] or [()]
        for number, piece in enumerate(pieces, 1):
            with self._using():
                uses = dict(self._known())
                self._uses = None  # until this piece is in: a failed transaction leaves nothing to go by
                with self._db:
                    touched = self._count(uses, piece)
                    self._store(piece, checkpoint if number == len(pieces) else None)
                    self._keep(uses, touched)
                self._uses = uses

    def drop_lying(self, segment: int, beyond: int) -> int:
        """Forget the fragments of a volume that reach past `beyond`: the volume is shorter than it was. How many."""
        gone: list[tuple[FragmentKey, Place]] = []
        at = 0
        while page := self.lying(segment, at, FLUSH_ROWS_MAX):
            gone.extend(entry for entry in page if entry[1].end > beyond)
            at = page[-1][1].offset + 1
        self.flush([(key, None) for key, _ in gone], None)
        with self._using():
            uses = dict(self._known())
            use = uses.get(segment)
            if use is not None:
                uses[segment] = VolumeUse(fragments=use.fragments, bytes=use.bytes, end=min(use.end, beyond))
                self._uses = None
                self._keep(uses, {segment})
                self._uses = uses
        return len(gone)

    def clear(self) -> None:
        with self._using(), self._db:
            self._uses = None
            self._db.execute("DELETE FROM fragments; DELETE FROM volumes; DELETE FROM checkpoint")

    def uses(self) -> Mapping[int, VolumeUse]:
        """What lives in each volume that holds anything."""
        with self._using():
            return dict(self._known())

    def holds_anything(self) -> bool:
        with self._using():
            return bool(self._known())

    def close(self) -> None:
        with self._using():
            self._db.close()

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

    def _count(self, uses: dict[int, VolumeUse], piece: Sequence[tuple[FragmentKey, Place | None]]) -> set[int]:
        """What storing `piece` will do to the volumes; which of them change."""
        touched: set[int] = set()
        for key, place in piece:
            row = self._db.execute(_PLACE_OF, (key.block, key.index)).fetchone()
            if row is not None:
                old = _place(*row)
                touched.add(old.segment)
                use = uses.get(old.segment, _EMPTY)
                uses[old.segment] = VolumeUse(
                    fragments=use.fragments - 1, bytes=use.bytes - old.bytes, end=use.end
                )  # fmt: skip
            if place is not None:
                touched.add(place.segment)
                use = uses.get(place.segment, _EMPTY)
                uses[place.segment] = VolumeUse(
                    fragments=use.fragments + 1, bytes=use.bytes + place.bytes, end=max(use.end, place.end)
                )
        return touched

    def _keep(self, uses: dict[int, VolumeUse], touched: set[int]) -> None:
        for segment in touched:
            use = uses[segment]
            if use.fragments <= 0:
                del uses[segment]
                self._db.execute("DELETE FROM volumes WHERE segment = ?", (segment,))
            else:
                row = (segment, use.fragments, use.bytes, use.end)
                self._db.execute("INSERT OR REPLACE INTO volumes VALUES (?, ?, ?, ?)", row)

    def _known(self) -> Mapping[int, VolumeUse]:
        """Read once, then kept."""
        if self._uses is None:
            rows: list[Any] = self._db.execute('SELECT segment, fragments, bytes, "end" FROM volumes').fetchall()
            for row in rows:
                _sane(*row)
            self._uses = {row[0]: VolumeUse(fragments=row[1], bytes=row[2], end=row[3]) for row in rows}
        return self._uses

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """One thread at a time, SQLite's errors as ours."""
        with self._lock, _translated():
            yield

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        version = next(iter(self._db.execute("PRAGMA user_version").fetchone() or (0,)))
        application = next(iter(self._db.execute("PRAGMA application_id").fetchone() or (0,)))
        if (version, application) != (SCHEMA_VERSION, APPLICATION_ID):
            if self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None:
                raise IndexDamaged("blocks.index_damaged", f"fragment index of form {version} is made anew")
            with self._db:
                self._db.execute(_SCHEMA)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        row = self._db.execute("SELECT journal FROM checkpoint").fetchone()
        if row is not None and row[0] != self._journal:
            raise IndexDamaged("blocks.index_damaged", "fragment index is of other volumes")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise IndexDamaged("blocks.index_damaged", f"fragment index is damaged: {error}") from error
    except apsw.FullError as error:
        raise NoSpace("storage.no_space", f"no space left for the fragment index: {error}", errno="ENOSPC") from error
    except apsw.ReadOnlyError as error:
        raise StorageFailed("storage.failed", f"EROFS while writing the index: {error}", errno="EROFS") from error
    except apsw.Error as error:
        raise StorageFailed("blocks.index", f"fragment index: {error}") from error


def _entry(row: Sequence[Any]) -> tuple[FragmentKey, Place]:
    block, index = row[0], row[1]
    if type(block) is not bytes or len(block) != BLOCK_ID_BYTES or type(index) is not int:
        raise IndexDamaged("blocks.index_damaged", "fragment index holds a row that names no fragment")
    return FragmentKey(BlockId(block), index), _place(*row[2:])


def _place(segment: Any, offset: Any, head: Any, length: Any) -> Place:
    _sane(segment, offset, head, length)
    return Place(segment, offset, head, length)


def _sane(*numbers: Any) -> None:
    for number in numbers:
        if type(number) is not int or number < 0:
            raise IndexDamaged("blocks.index_damaged", "fragment index holds a row that makes no sense")
