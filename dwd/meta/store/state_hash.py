"""Keeps the state hash of one database: a sum for each table, moved by every row that SQLite changes.

SQLite itself says what changes (its pre-update hook hands out each row before and after, replaced and cascading ones
included), so no statement anywhere can forget to. The sums are written once a batch, in its transaction, with the index
they belong to; a database that has none yet, or by another definition, gets them from its rows.

Not summed: `position`, whose fields go into the digest as they are, and the two tables of this module.

The scan goes through the rows in order of their keys, a few at a time between batches, and adds them up. A row
changed meanwhile changes its sum too if it lies in the part that is done, so both sums are equal at a table's end
unless a row is not what was written.

Source: raft.md section 3.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import apsw

from dwd.base.errors import Corrupt, InvariantViolation
from dwd.base.ids import LogIndex
from dwd.meta.core.tx import Row
from dwd.meta.store import database
from dwd.meta.store.row_hash import DEFINITION, MODULUS, SUM_BYTES, rows_hash
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
    sums BLOB NOT NULL,
    digest BLOB NOT NULL               -- of the sums and of the row in `position`
) STRICT;
CREATE TABLE IF NOT EXISTS checkpoints (
    log_index INTEGER PRIMARY KEY,
    definition INTEGER NOT NULL,
    digest BLOB NOT NULL
) STRICT;
"""
_NAME = struct.Struct(">H")
_HEAD = struct.Struct(">QQQQQ")


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
        self._version = 0
        self._schema: dict[str, str] = {}
        self._sums: dict[str, int] = {}
        self._encoded: dict[str, bytes] = {}
        self._gone: defaultdict[str, list[Row]] = defaultdict(list)
        self._come: defaultdict[str, list[Row]] = defaultdict(list)
        self._scan: _Progress | None = None
        self._scanned: set[str] = set()
        self._found: str | None = None
        self.newest: StateHash | None = None
        connection.execute(_TABLES)
        connection.preupdate_hook(_noting(self._gone, self._come))

    def attach(self, connection: apsw.Connection) -> None:
        """The database was closed and is open again, unchanged: go on with what is known."""
        self._connection = connection
        connection.preupdate_hook(_noting(self._gone, self._come))

    # -- kept with every batch ----------------------------------------------------------------------------------

    def load(self, position: SnapshotMeta, *, version: int) -> None:
        """Take over what is stored for the rows at `position`, or make it anew. A scan under way begins again.
        Raises Corrupt when sums and position do not belong together: one transaction wrote both.
        """
        self._version = version
        self._schema = self._tables()
        self._encoded.clear()
        self._gone.clear()
        self._come.clear()
        self._scan, self._found = None, None
        self._scanned.clear()
        row = self._first("SELECT log_index, definition, sums, digest FROM state_hash")
        if row is not None and row[1] == DEFINITION:
            self._sums = _decode(row[2])
            if (row[0], row[3]) != (position.index, self._digest(position, row[2])):
                raise Corrupt("meta.position_changed", f"the hash of index {row[0]} is not that of {position.index}")
        else:
            self._sums = {name: self._sum_of(name) for name in self._tables()}
            sums = self._encode()
            self._connection.execute(
                "INSERT OR REPLACE INTO state_hash VALUES (1, ?, ?, ?, ?)",
                (position.index, DEFINITION, sums, self._digest(position, sums)),
            )
        newest = self._first("SELECT log_index, definition, digest FROM checkpoints ORDER BY log_index DESC LIMIT 1")
        self.newest = None if newest is None else _recorded(newest)

    def upgraded(self, version: int) -> None:
        """The active version is another from here on. A change of a table's columns tells nothing of its rows: the
        sums of the tables that look different are made anew, those of the others go on.
        """
        schema = self._tables()
        for table in self._schema.keys() | schema.keys():
            if self._schema.get(table) != schema.get(table):
                for known in (self._gone, self._come, self._encoded, self._sums):
                    known.pop(table, None)
                if table in schema:
                    self._sums[table] = self._sum_of(table)
        self._version, self._schema = version, schema
        self._scan = None
        self._scanned.clear()

    def store(self, position: SnapshotMeta) -> None:
        """In the transaction of the batch that ends at `position`."""
        self.settle()
        sums = self._encode()
        self._connection.execute(
            "UPDATE state_hash SET log_index = ?, sums = ?, digest = ?",
            (position.index, sums, self._digest(position, sums)),
        )

    def record(self, position: SnapshotMeta) -> None:
        """Remember what the state comes to, for others to compare with; `position` is that of the checkpoint."""
        self.settle()
        found = StateHash(index=position.index, definition=DEFINITION, digest=self._digest(position, self._encode()))
        self._connection.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", (found.index, found.definition, found.digest)
        )
        self._connection.execute(
            "DELETE FROM checkpoints WHERE log_index NOT IN"
            " (SELECT log_index FROM checkpoints ORDER BY log_index DESC LIMIT ?)",
            (CHECKPOINTS_KEPT,),
        )
        self.newest = found

    def _digest(self, position: SnapshotMeta, sums: bytes) -> bytes:
        """One for all tables, of a group that stands at `position`."""
        whole = hashlib.sha256(_HEAD.pack(self._group, self._version, position.index, position.term, position.stamp))
        whole.update(encode_configuration(position.configuration))
        whole.update(sums)
        return whole.digest()

    def recorded(self, index: LogIndex) -> StateHash | None:
        row = self._first("SELECT log_index, definition, digest FROM checkpoints WHERE log_index = ?", (index,))
        return None if row is None else _recorded(row)

    def settle(self) -> None:
        """Add up the rows that changed since the last call. Called often enough that they do not pile up."""
        for rows, sign in ((self._gone, -1), (self._come, 1)):
            for table, changed in rows.items():
                self._sums[table] = (self._sums.get(table, 0) + sign * rows_hash(changed)) % MODULUS
                self._encoded.pop(table, None)
                if self._scan is not None and self._scan.table == table:
                    self._scan.total += sign * rows_hash([row for row in changed if _done(self._scan, row)])
            rows.clear()

    def _encode(self) -> bytes:
        """The sums as they are stored; what did not change since the last time is not done again."""
        if len(self._encoded) < len(self._sums):
            for name in self._sums.keys() - self._encoded.keys():
                self._encoded[name] = _encode(name, self._sums[name])
        return b"".join([self._encoded[name] for name in sorted(self._encoded)])

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
        scan.total += rows_hash(rows)
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
        if database.read_position(self._connection) != position:
            found = found or "the row that says where the database stands is not what was written"
        sums = self._encode()
        if self._first("SELECT sums, digest FROM state_hash") != (sums, self._digest(position, sums)):
            found = found or "the row that holds the hash is not what was written"
        return Scan(finished=True, rows=0, found=found)

    def _sum_of(self, table: str) -> int:
        rows = self._connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - as in `_begin`
        return rows_hash(rows) % MODULUS

    def _tables(self) -> dict[str, str]:
        """What made each table that counts, by its name."""
        found = self._connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        return {name: sql for name, sql in found if name not in LOCAL_TABLES}

    def _first(self, sql: str, bindings: tuple[int, ...] = ()) -> Row | None:
        return next(self._connection.execute(sql, bindings), None)


def _noting(gone: dict[str, list[Row]], come: dict[str, list[Row]]) -> Callable[[Any], None]:
    """The pre-update hook. It only collects, which is what can be afforded between two steps of a statement: hashing
    many rows at once takes half the time it takes one by one.
    """

    def note(change: Any) -> None:
        table = change.table_name
        if table in LOCAL_TABLES:
            return
        new = change.new
        if new is not None:
            come[table].append(new)
        if change.opcode != apsw.SQLITE_INSERT:
            old = change.old
            if old is not None:
                gone[table].append(old)

    return note


def _key(scan: _Progress, row: Row) -> Row:
    return tuple(row[place] for place in scan.places)


def _done(scan: _Progress, row: Row) -> bool:
    """Whether the scan has passed the row's key: text and blobs compare here as they do in SQLite, byte by byte."""
    return scan.last is not None and _key(scan, row) <= scan.last


def _encode(name: str, total: int) -> bytes:
    """`[length u16][name][sum 32 bytes, little-endian]`; nothing for an empty table."""
    encoded = name.encode()
    return _NAME.pack(len(encoded)) + encoded + total.to_bytes(SUM_BYTES, "little") if total else b""


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
