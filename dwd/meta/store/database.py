"""SQLite as the groups use it: how databases are opened, what identifies them, and its errors as ours.

WAL with synchronous=NORMAL: a commit costs no fsync and the file is consistent after power loss, as of some commit;
the Raft log holds what came later. Checkpoints are made by `SqliteMachine.checkpoint` alone.

Hazard: SQLite answers a failed fsync with an error and no second try; the machine that saw it must not go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import apsw

from dwd.base.errors import Corrupt, DwError, InvariantViolation, NoSpace, StorageFailed, VersionRefused
from dwd.base.ids import CONTROL_GROUP, ClusterId, GroupId, LogIndex, Stamp, Term
from dwd.meta.core.tx import Row, Value
from dwd.meta.core.versions import Versions
from dwd.raft.core.configuration_codec import decode_configuration, encode_configuration
from dwd.raft.core.types import EMPTY_CONFIGURATION, SnapshotMeta

PAGE_BYTES = 4_096
SCHEMA_VERSION = 1
UPGRADE = "upgrade the dwd binary of this node"
APPLICATION_ID_CONTROL = 0x64776463
APPLICATION_ID_SHARD = 0x64776473
STATEMENTS_CACHED = 256
WRITER_CACHE_KIB = 8_192
READER_CACHE_KIB = 2_048
BUSY_MS = 200
"""How long a checkpoint waits for readers."""
CHECK_BYTES_MAX = 256 * 1024 * 1024
"""Databases up to this size are checked whole when opened; larger ones as they are read."""
WAL_BYTES_KEPT = 64 * 1024 * 1024


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Errors of SQLite inside become DwErrors."""
    try:
        yield
    except apsw.Error as error:
        raise as_dw_error(error, doing) from error


def as_dw_error(error: apsw.Error, doing: str) -> DwError:
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)):
        return Corrupt("meta.database_damaged", f"the database is damaged ({error}) while {doing}")
    if isinstance(error, apsw.FullError):
        return NoSpace("meta.no_space", f"no space left while {doing}")
    if isinstance(error, (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.BusyError, apsw.LockedError)):
        return StorageFailed("meta.database_failed", f"the database failed ({error}) while {doing}")
    return InvariantViolation(f"a statement that cannot fail failed ({error}) while {doing}")


class SqliteTx:
    """`dwd.meta.core.tx.Tx` on a connection whose transactions someone else begins and ends."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    def rows(self, sql: str, bindings: Sequence[Value] = ()) -> Iterator[Row]:
        return self._execute(sql, bindings)

    def row(self, sql: str, bindings: Sequence[Value] = ()) -> Row | None:
        return next(self._execute(sql, bindings), None)

    def run(self, sql: str, bindings: Sequence[Value] = ()) -> None:
        self._execute(sql, bindings)

    def run_many(self, sql: str, bindings: Sequence[Sequence[Value]]) -> None:
        self._connection.executemany(sql, bindings)

    def changed(self) -> int:
        return self._connection.changes()

    def changes(self) -> int:
        return self._connection.total_changes()


def connect(path: Path, *, vfs: str, create: bool = False) -> apsw.Connection:
    """A connection for the one writer."""
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs or None, statementcachesize=STATEMENTS_CACHED)
    connection.set_busy_timeout(BUSY_MS)
    for pragma in (
        f"page_size = {PAGE_BYTES}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "wal_autocheckpoint = 0",
        f"journal_size_limit = {WAL_BYTES_KEPT}",
        f"cache_size = -{WRITER_CACHE_KIB}",
        "foreign_keys = OFF",
        "trusted_schema = OFF",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def connect_reader(path: Path, *, vfs: str) -> apsw.Connection:
    """A connection that cannot write. It is used by one thread at a time."""
    flags = apsw.SQLITE_OPEN_READWRITE  # WAL readers must write the shared index
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs or None, statementcachesize=STATEMENTS_CACHED)
    connection.set_busy_timeout(BUSY_MS)
    for pragma in ("query_only = ON", f"cache_size = -{READER_CACHE_KIB}", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def application_id(group: GroupId) -> int:
    return APPLICATION_ID_CONTROL if group == CONTROL_GROUP else APPLICATION_ID_SHARD


def schema_of(group: GroupId) -> str:
    """The SQL that makes an empty database of this group's kind."""
    own = "control.sql" if group == CONTROL_GROUP else "shard.sql"
    folder = resources.files("dwd.meta.schema")
    return (folder / "common.sql").read_text() + (folder / own).read_text()


def create(connection: apsw.Connection, *, cluster: ClusterId, group: GroupId, version: int) -> None:
    """Tables and position of a replica that has applied nothing."""
    connection.execute(f"PRAGMA application_id = {application_id(group)}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    with connection:
        connection.execute(schema_of(group))
        connection.execute(
            "INSERT INTO position VALUES (1, ?, ?, 0, 0, 0, ?, ?)",
            (cluster, group, encode_configuration(EMPTY_CONFIGURATION), version),
        )


def check_identity(connection: apsw.Connection, *, cluster: ClusterId, group: GroupId, versions: Versions) -> None:
    """Raises Corrupt (damaged, or another group's), VersionRefused (a newer daemon's, or another cluster's).

    A group whose active version is not known here must not be applied by this daemon: it would do something else
    with the commands than the other replicas.
    """
    found_id = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    if found_id != application_id(group):
        raise Corrupt("meta.database_kind", f"this is no database of group {group}")
    if version > SCHEMA_VERSION:
        raise VersionRefused(
            "meta.database_newer",
            f"the database has schema {version}, this daemon knows {SCHEMA_VERSION}",
            hint=UPGRADE,
        )
    if size(connection) <= CHECK_BYTES_MAX:
        verdict = next(connection.execute("PRAGMA quick_check(1)"), ("nothing",))[0]
        if verdict != "ok":
            raise Corrupt("meta.database_damaged", f"the database is damaged: {verdict}")
    row = next(connection.execute("SELECT cluster, group_id FROM position"), None)
    if row is None or row[1] != group:
        raise Corrupt("meta.database_kind", f"this is no database of group {group}")
    if row[0] != cluster:
        raise VersionRefused("meta.other_cluster", f"the database belongs to cluster {row[0]}, this is {cluster}")
    active = read_version(connection)
    if active < 1:
        raise Corrupt("meta.database_damaged", f"group {group} has the active version {active}")
    known = f"group {group} has the active version {active}, this daemon knows {versions.oldest} to {versions.newest}"
    if active > versions.newest:
        raise VersionRefused("meta.version_newer", known, hint=UPGRADE)
    if active < versions.oldest:
        raise VersionRefused("meta.version_older", known, hint="run a dwd binary that knows both until it is raised")


def size(connection: apsw.Connection) -> int:
    """Bytes of the database file, as of the connection's transaction."""
    return _number(connection, "PRAGMA page_count") * _number(connection, "PRAGMA page_size")


def read_position(connection: apsw.Connection) -> SnapshotMeta:
    row = next(connection.execute("SELECT log_index, term, stamp, configuration FROM position"), None)
    if row is None:
        raise Corrupt("meta.no_position", "the database does not know where it stands")
    return SnapshotMeta(
        index=LogIndex(row[0]), term=Term(row[1]), stamp=Stamp(row[2]), configuration=decode_configuration(row[3])
    )


def read_version(connection: apsw.Connection) -> int:
    """The active version of the group's commands."""
    return _number(connection, "SELECT version FROM position")


def write_position(connection: apsw.Connection, position: SnapshotMeta) -> None:
    connection.execute(
        "UPDATE position SET log_index = ?, term = ?, stamp = ?, configuration = ?",
        (position.index, position.term, position.stamp, encode_configuration(position.configuration)),
    )


def _number(connection: apsw.Connection, sql: str) -> int:
    return int(next(connection.execute(sql))[0])
