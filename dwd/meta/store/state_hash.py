"""Keeps the state hash of one database: a sum for each table, moved by every row that SQLite changes.

SQLite itself says what changes (its pre-update hook hands out each row before and after, replaced and cascading ones
included), so no statement anywhere can forget to. The sums are written once a batch, in its transaction, with the index
they belong to; sums that belong to another index (an older daemon was here) are made anew from the rows.

Not summed: `position`, whose fields go into the digest as they are, and the two tables of this module.

The scan goes through the rows in order of their keys, a few at a time between batches, and adds them up. A row
changed meanwhile changes its sum too if it lies in the part that is done, so both sums are equal at a table's end
unless a row is not what was written.

Source: raft.md section 3.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import apsw

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex
from dwd.meta.core.tx import Row
from dwd.meta.store.row_hash import DEFINITION, MODULUS, SUM_BYTES, row_hash
from dwd.raft.core.configuration_codec import encode_configuration
from dwd.raft.core.types import SnapshotMeta
from dwd.raft.ports import Scan, StateHash

CHECKPOINTS_KEPT = 16
LOCAL_TABLES = frozenset({"position", "state_hash", "checkpoints"})

_TABLES = """
CREATE TABLE IF NOT EXISTS state_hash (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    log_index INTEGER NOT NULL,        -- the sums are those of the rows at this index
    definition INTEGER NOT NULL,       -- dwd.meta.store.row_hash
    sums BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS checkpoints (
    log_index INTEGER PRIMARY KEY,
    definition INTEGER NOT NULL,
    digest BLOB NOT NULL
) STRICT;
"""
_NAME = struct.Struct(">H")
_POSITION = struct.Struct(">QQQQ")


@dataclass(slots=True)
class _Progress:
    """A scan under way in one table. `places` are those of the key's columns, `last` the key of the last row done."""

    table: str
    places: tuple[int, ...]
    first: str
    """The statement for the first rows, and for those after `last`."""
    next: str
    last: Row | None = None
    total: int = 0


class StateKeeper:
    """One connection's; used on its thread. `load` before anything else, and after a rollback."""

    def __init__(self, connection: apsw.Connection, *, group: int) -> None:
        self._connection = connection
        self._group = group
        self._sums: dict[str, int] = {}
        self._scan: _Progress | None = None
        self._scanned: set[str] = set()
        self._found: str | None = None
        self.newest: StateHash | None = None
        connection.execute(_TABLES)
        connection.preupdate_hook(self._note)

    # -- kept with every batch ----------------------------------------------------------------------------------

    def load(self, index: LogIndex) -> None:
        """Take over what is stored for the rows at `index`, or make it anew. A scan under way begins again."""
        self._scan, self._found = None, None
        self._scanned.clear()
        row = self._first("SELECT log_index, definition, sums FROM state_hash")
        if row is not None and row[:2] == (index, DEFINITION):
            self._sums = _decode(row[2])
        else:
            self._sums = {name: self._sum_of(name) for name in self._tables()}
            self._connection.execute(
                "INSERT OR REPLACE INTO state_hash VALUES (1, ?, ?, ?)", (index, DEFINITION, _encode(self._sums))
            )
        newest = self._first("SELECT log_index, definition, digest FROM checkpoints ORDER BY log_index DESC LIMIT 1")
        self.newest = None if newest is None else _recorded(newest)

    def store(self, index: LogIndex) -> None:
        """In the transaction of the batch that ends at `index`."""
        self._connection.execute("UPDATE state_hash SET log_index = ?, sums = ?", (index, _encode(self._sums)))

    def record(self, position: SnapshotMeta, *, version: int) -> None:
        """Remember what the state comes to, for others to compare with; `position` is that of the checkpoint."""
        found = StateHash(index=position.index, definition=DEFINITION, digest=self.digest(position, version=version))
        self._connection.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", (found.index, found.definition, found.digest)
        )
        self._connection.execute(
            "DELETE FROM checkpoints WHERE log_index NOT IN"
            " (SELECT log_index FROM checkpoints ORDER BY log_index DESC LIMIT ?)",
            (CHECKPOINTS_KEPT,),
        )
        self.newest = found

    def digest(self, position: SnapshotMeta, *, version: int) -> bytes:
        """One number for all tables, of a group that stands at `position`."""
        whole = hashlib.sha256(_POSITION.pack(self._group, position.index, position.term, position.stamp))
        whole.update(_POSITION.pack(DEFINITION, version, 0, 0))
        whole.update(encode_configuration(position.configuration))
        whole.update(_encode(self._sums))
        return whole.digest()

    def recorded(self, index: LogIndex) -> StateHash | None:
        row = self._first("SELECT log_index, definition, digest FROM checkpoints WHERE log_index = ?", (index,))
        return None if row is None else _recorded(row)

    def _note(self, change: Any) -> None:
        """The pre-update hook: a row is about to be inserted, changed or deleted."""
        table = change.table_name
        if table in LOCAL_TABLES:
            return
        scan = self._scan if self._scan is not None and self._scan.table == table else None
        old, new = change.old, change.new
        moved = 0
        if old is not None:
            hashed = row_hash(old)
            moved -= hashed
            if scan is not None and _done(scan, old):
                scan.total -= hashed
        if new is not None:
            hashed = row_hash(new)
            moved += hashed
            if scan is not None and _done(scan, new):
                scan.total += hashed
        self._sums[table] = self._sums.get(table, 0) + moved

    # -- the scan -----------------------------------------------------------------------------------------------

    def scan(self, rows_max: int, position: SnapshotMeta) -> Scan:
        """Up to `rows_max` rows of one table; outside a transaction, with the machine at `position`."""
        if self._scan is None:
            left = sorted(set(self._tables()) - self._scanned)
            if not left:
                return self._finish(position)
            self._scan = self._begin(left[0])
        scan = self._scan
        if scan.last is None:
            rows = self._connection.execute(scan.first, (rows_max,)).fetchall()
        else:
            rows = self._connection.execute(scan.next, (*scan.last, rows_max)).fetchall()
        scan.total += sum(map(row_hash, rows))
        if len(rows) == rows_max:
            scan.last = _key(scan, rows[-1])
        else:
            if (scan.total - self._sums.get(scan.table, 0)) % MODULUS:
                self._found = self._found or f"rows of table {scan.table} are not what was written"
            self._scanned.add(scan.table)
            self._scan = None
        return Scan(finished=False, rows=len(rows))

    def _begin(self, table: str) -> _Progress:
        columns = list(self._connection.execute("SELECT name, pk, cid FROM pragma_table_info(?)", (table,)))
        keyed = sorted((place, name, cid) for name, place, cid in columns if place)
        if not keyed:
            raise InvariantViolation(f"table {table} has no primary key to be scanned by")
        names = ", ".join(f'"{name}"' for _, name, _ in keyed)
        marks = ", ".join("?" * len(keyed))
        return _Progress(
            table=table,
            places=tuple(cid for _, _, cid in keyed),
            first=f'SELECT * FROM "{table}" ORDER BY {names} LIMIT ?',  # noqa: S608 - names come from the schema
            next=f'SELECT * FROM "{table}" WHERE ({names}) > ({marks}) ORDER BY {names} LIMIT ?',  # noqa: S608
        )

    def _finish(self, position: SnapshotMeta) -> Scan:
        found, self._found = self._found, None
        self._scanned.clear()
        fields = (position.index, position.term, position.stamp, encode_configuration(position.configuration))
        if self._first("SELECT log_index, term, stamp, configuration FROM position") != fields:
            found = found or "the row that says where the database stands is not what was written"
        return Scan(finished=True, rows=0, found=found)

    def _sum_of(self, table: str) -> int:
        rows = self._connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - as in `_begin`
        return sum(map(row_hash, rows)) % MODULUS

    def _tables(self) -> list[str]:
        names = self._connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        return [name for (name,) in names if name not in LOCAL_TABLES]

    def _first(self, sql: str, bindings: tuple[int, ...] = ()) -> Row | None:
        return next(self._connection.execute(sql, bindings), None)


def _key(scan: _Progress, row: Row) -> Row:
    return tuple(row[place] for place in scan.places)


def _done(scan: _Progress, row: Row) -> bool:
    """Whether the scan has passed the row's key: text and blobs compare here as they do in SQLite, byte by byte."""
    return scan.last is not None and _key(scan, row) <= scan.last


def _encode(sums: Mapping[str, int]) -> bytes:
    """`[length u16][name][sum 32 bytes, little-endian]` for each table that is not empty, by name."""
    pieces = list[bytes]()
    for name in sorted(sums):
        total = sums[name] % MODULUS
        if total:
            encoded = name.encode()
            pieces += (_NAME.pack(len(encoded)), encoded, total.to_bytes(SUM_BYTES, "little"))
    return b"".join(pieces)


def _decode(encoded: bytes) -> dict[str, int]:
    sums: dict[str, int] = {}
    at = 0
    while at < len(encoded):
        (length,) = _NAME.unpack_from(encoded, at)
        at += _NAME.size
        name = encoded[at : at + length].decode(errors="replace")
        at += length + SUM_BYTES
        sums[name] = int.from_bytes(encoded[at - SUM_BYTES : at], "little")
    return sums


def _recorded(row: Row) -> StateHash:
    return StateHash(index=LogIndex(row[0]), definition=row[1], digest=row[2])
