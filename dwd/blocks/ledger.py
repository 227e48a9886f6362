"""The record of every repair and move of this node: which block, why, what was read and written, how it ended.

    heal.sqlite in the data directory: one row an attempt, but one row a block for attempts that fail again and again.

Bounded in rows and in age. Entries are collected in memory and written together, off the event loop; what a crash takes
is at most the last second of a history that nothing depends on.

Threads: `note` belongs to the event loop; `flush` and `find` run on worker threads, one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import apsw

from dwd.base.clock import Clock
from dwd.base.errors import StorageFailed
from dwd.base.ids import BlockId, DeviceId, GroupId, hex_id, parse_hex_id
from dwd.runtime.worker import Progress

SCHEMA_VERSION = 1
APPLICATION_ID = 0x64776868
ROWS_MAX = 100_000
AGE_MS_MAX = 30 * 86_400_000
WAITING_MAX = 10_000
"""Entries not yet written; past it the oldest go."""
LIMIT_MAX = 1_000

_SCHEMA = """
CREATE TABLE repairs (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL, block BLOB NOT NULL, grp INTEGER NOT NULL, bucket TEXT NOT NULL, key TEXT NOT NULL,
    state TEXT NOT NULL, cause TEXT NOT NULL, margin INTEGER NOT NULL, reason TEXT NOT NULL, decoded INTEGER NOT NULL,
    read TEXT NOT NULL, written TEXT NOT NULL, read_bytes INTEGER NOT NULL, written_bytes INTEGER NOT NULL,
    waited_ms INTEGER NOT NULL, took_ms INTEGER NOT NULL, tries INTEGER NOT NULL
) STRICT;
CREATE INDEX repairs_block ON repairs (block);
CREATE INDEX repairs_state ON repairs (state, id);
"""
_COLUMNS = (
    "at_ms, block, grp, bucket, key, state, cause, margin, reason, decoded, read, written, read_bytes, written_bytes,"
    " waited_ms, took_ms, tries"
)


class RepairState(Enum):
    DONE = "done"
    PARKED = "parked"
    """Nothing can be done for now, as while devices are away; it is tried again by itself."""
    FAILED = "failed"
    """Something went wrong; it is tried again by itself."""


Fragment = tuple[int, DeviceId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`at_ms`: when it ended. `waited_ms`: how long the block had needed it. `tries`: in vain, with this one."""

    at_ms: int
    block: BlockId
    group: GroupId
    bucket: str
    key: str
    state: RepairState
    cause: str
    margin: int
    reason: str
    decoded: bool
    read: tuple[Fragment, ...]
    written: tuple[Fragment, ...]
    read_bytes: int
    written_bytes: int
    waited_ms: int
    took_ms: int
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries: empty fields fit all. `after_ms`: ended later than this."""

    state: str = ""
    cause: str = ""
    bucket: str = ""
    block: str = ""
    after_ms: int = 0
    limit: int = 100


class Ledger:
    def __init__(self, path: Path | str, *, vfs: str = "") -> None:
        self._waiting: list[Entry] = []
        self._lock = threading.Lock()
        self._db = _open(str(path), vfs)

    def note(self, entry: Entry) -> None:
        if len(self._waiting) >= WAITING_MAX:
            del self._waiting[0]
        self._waiting.append(entry)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self) -> list[Entry]:
        """What `flush` is to write."""
        taken, self._waiting = self._waiting, []
        return taken

    def flush(self, entries: Sequence[Entry], now_ms: int) -> None:
        """Raises StorageFailed."""
        with self._using():
            for entry in entries:
                if entry.state is not RepairState.DONE:
                    self._db.execute("DELETE FROM repairs WHERE block = ? AND state <> 'done'", (entry.block,))
                else:
                    self._db.execute("DELETE FROM repairs WHERE block = ? AND state = 'parked'", (entry.block,))
                self._db.execute(
                    f"INSERT INTO repairs ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608
                    _values(entry),
                )
            self._db.execute("DELETE FROM repairs WHERE at_ms < ?", (now_ms - AGE_MS_MAX,))
            self._db.execute("DELETE FROM repairs WHERE id <= (SELECT max(id) FROM repairs) - ?", (ROWS_MAX,))

    def find(self, wanted: Wanted) -> list[Entry]:
        """Newest first. Raises StorageFailed."""
        conditions: list[str] = ["at_ms > ?"]
        values: list[Any] = [wanted.after_ms]
        fields: list[tuple[str, Any]] = [("state", wanted.state), ("cause", wanted.cause), ("bucket", wanted.bucket)]
        for name, value in fields:
            if value:
                conditions.append(f"{name} = ?")
                values.append(value)
        if wanted.block:
            conditions.append("hex(block) = upper(?)")
            values.append(wanted.block)
        limit = max(1, min(wanted.limit, LIMIT_MAX))
        with self._using():
            rows: list[Any] = self._db.execute(
                f"SELECT {_COLUMNS} FROM repairs WHERE {' AND '.join(conditions)}"  # noqa: S608 - names are constants
                f" ORDER BY at_ms DESC, id DESC LIMIT {limit}",
                values,
            ).fetchall()
        return [_entry(row) for row in rows]

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        with self._lock:
            try:
                with self._db:
                    yield
            except apsw.Error as error:
                raise StorageFailed("blocks.ledger", f"the ledger of repairs: {error}") from error


def _open(path: str, vfs: str) -> apsw.Connection:
    """A ledger that cannot be read is begun anew: it is history, no authority."""
    for again in (False, True):
        try:
            db = apsw.Connection(path, vfs=vfs or None)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA journal_size_limit = 4194304")
            (version,) = db.execute("PRAGMA user_version").fetchone() or (0,)
            if version == 0:
                with db:
                    db.execute(_SCHEMA)
                    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            _ = db.execute("SELECT count(*) FROM repairs").fetchone()
        except apsw.Error as error:
            if again:
                raise StorageFailed("blocks.ledger", f"the ledger of repairs cannot be opened: {error}") from error
            for suffix in ("", "-wal", "-shm"):
                Path(path + suffix).unlink(missing_ok=True)
        else:
            return db
    raise StorageFailed("blocks.ledger", "the ledger of repairs cannot be opened")


def _values(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.at_ms, entry.block, entry.group, entry.bucket, entry.key, entry.state.value, entry.cause, entry.margin,
        entry.reason, int(entry.decoded), _pack(entry.read), _pack(entry.written), entry.read_bytes,
        entry.written_bytes, entry.waited_ms, entry.took_ms, entry.tries,
    )  # fmt: skip


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(
        at_ms=row[0], block=BlockId(row[1]), group=GroupId(row[2]), bucket=row[3], key=row[4],
        state=RepairState(row[5]), cause=row[6], margin=row[7], reason=row[8], decoded=bool(row[9]),
        read=_unpack(row[10]), written=_unpack(row[11]), read_bytes=row[12], written_bytes=row[13],
        waited_ms=row[14], took_ms=row[15], tries=row[16],
    )  # fmt: skip


def _pack(fragments: Sequence[Fragment]) -> str:
    return json.dumps([[index, hex_id(device)] for index, device in fragments], separators=(",", ":"))


def _unpack(packed: str) -> tuple[Fragment, ...]:
    return tuple((index, DeviceId(parse_hex_id(device))) for index, device in json.loads(packed))


class LedgerWorker:
    """Worker "blocks.ledger": writes what was noted."""

    name = "blocks.ledger"
    idle_seconds = 1.0

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock

    async def work(self) -> Progress:
        if self._ledger.waiting:
            entries, now_ms = self._ledger.take(), self._clock.unix_ms()
            await asyncio.to_thread(self._ledger.flush, entries, now_ms)
        return Progress.IDLE
