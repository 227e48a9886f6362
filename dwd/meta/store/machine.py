"""One group's state machine on its SQLite database: what `dwd.raft.ports.StateMachine` asks for.

Invariants:
* position, sessions, rows of a batch change in one transaction: after a crash the database stands at the end of some
  batch, and the log is applied again from there;
* what was kept in memory is dropped with a transaction that failed, so a batch can be tried again;
* a database once found damaged is not used again: every later call raises Corrupt until a snapshot is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from dwd.base.errors import Corrupt, InvariantViolation, NoSpace, NotFound, StorageFailed
from dwd.base.ids import CONTROL_GROUP, ClusterId, GroupId, LogIndex
from dwd.meta.codec import decode_envelope
from dwd.meta.core.apply import ControlCommands, Engine, ShardCommands
from dwd.meta.core.control.state import Part
from dwd.meta.core.outcome import Outcome
from dwd.meta.core.tx import At
from dwd.meta.core.versions import KNOWN, Versions
from dwd.meta.store import database
from dwd.meta.store.copying import copy_database
from dwd.meta.store.database import SqliteTx, translated
from dwd.meta.store.generations import Generations
from dwd.meta.store.row_hash import DEFINITION
from dwd.meta.store.state_hash import StateKeeper
from dwd.raft.core.configuration_codec import decode_configuration
from dwd.raft.core.types import EMPTY_SNAPSHOT, Configuration, Entry, EntryKind, SnapshotMeta
from dwd.raft.ports import Scan, StateHash
from dwd.runtime.files import Files

SETTLED_ENTRIES = 32
"""Commands whose changed rows are held in memory before they are hashed."""


@dataclass(slots=True, kw_only=True)
class _Open:
    """What exists only while the database is open: the connection and what stands on it."""

    connection: apsw.Connection
    control: ControlCommands | None
    engine: Engine


Changed = Callable[[frozenset[Part]], None]
"""Called on the group's thread after a commit that changed control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What readers open. `number` counts the generations this process has seen: a change means: open anew."""

    path: Path
    number: int


class SqliteMachine:
    """All methods but `position`, `live` and `copy_snapshot` on one thread at a time."""

    def __init__(
        self,
        directory: Path,
        *,
        cluster: ClusterId,
        group: GroupId,
        files: Files,
        vfs: str = "",
        on_changed: Changed | None = None,
        on_rest: Callable[[], None] | None = None,
        versions: Versions = KNOWN,
    ) -> None:
        """Opens, or creates at the oldest version. `vfs` names a registered SQLite VFS, empty for the system's.
        Raises Corrupt, VersionRefused, StorageFailed.
        """
        self._cluster = cluster
        self._group = group
        self._files = files
        self._vfs = vfs
        self._on_changed = on_changed
        self._on_rest = on_rest
        self._versions = versions
        self._generations = Generations(directory, files)
        self._damaged: Corrupt | None = None
        self._quarantined: str | None = None
        self._at = EMPTY_SNAPSHOT
        """Where the command stands that is being applied."""
        self._opened: _Open | None = None
        with translated("opening the database"):
            path = self._generations.live() or self._create()
            self._generations.sweep()
            connection = database.connect(path, vfs=vfs)
            try:
                database.check_identity(connection, cluster=cluster, group=group, versions=versions)
                self._load(connection, path, number=1)
            except BaseException:
                connection.close()
                raise

    @property
    def live(self) -> Live:
        return self._live

    def position(self) -> SnapshotMeta:
        return self._position

    def version(self) -> int:
        return self._version

    def apply(self, entries: Sequence[Entry]) -> Sequence[object]:
        self._require_sound()
        try:
            with translated("applying"):
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    position, outcomes = self._apply_all(entries)
                    self._connection.execute("COMMIT")
                except BaseException:
                    self._roll_back()
                    raise
        except Corrupt as error:
            self._damaged = error
            raise
        self._position = position
        self._version = self._open.engine.version
        self._tell()
        return outcomes

    def checkpoint(self) -> LogIndex | None:
        self._require_sound()
        index = self._position.index
        with translated("making a checkpoint"):
            try:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            except apsw.BusyError:
                frames, moved = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                if frames != moved:
                    return None
        return index

    def copy_snapshot(self, target: Path) -> SnapshotMeta:
        while True:
            live = self._live
            self._require_sound()
            try:
                with translated("copying the database"):
                    return copy_database(live.path, target, vfs=self._vfs)
            except (Corrupt, StorageFailed):
                if self._live.number == live.number:  # else a snapshot took the place of what was read
                    raise

    def install_snapshot(self, source: Path, expected: SnapshotMeta) -> None:
        with translated("verifying a snapshot"):
            self._verify(source, expected)
        path = self._generations.prepare()
        self._files.rename(source, path)
        try:
            self._generations.make_live(path)
        except NoSpace:
            self._files.rename(path, source)  # the same can be tried again
            raise
        with translated("opening the installed snapshot"):
            self._close()
            self._load(database.connect(path, vfs=self._vfs), path, number=self._live.number + 1)
        self._damaged = None
        self._generations.sweep()
        self._tell(everything=True)

    def state_hash(self, index: LogIndex | None = None) -> StateHash | None:
        """At `index` only on the group's lane."""
        newest = self._keeper.newest
        if index is None or (newest is not None and newest.index == index):
            return newest
        self._require_sound()
        with translated("looking up a checkpoint"):
            return self._opened_keeper.recorded(index)

    def scan(self, rows_max: int) -> Scan:
        self._require_sound()
        with translated("scanning the rows"):
            return self._opened_keeper.scan(rows_max, self._position)

    def quarantine(self, reason: str) -> None:
        self._generations.quarantine(reason)
        self._quarantined = reason

    def quarantined(self) -> str | None:
        return self._quarantined

    def rest(self) -> None:
        """Closing the last connection moves the write-ahead log into the database and removes it."""
        with translated("closing the database"):
            self._close()
        if self._on_rest is not None:
            self._on_rest()

    def close(self) -> None:
        self._close()

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.connection.close()

    @property
    def _open(self) -> _Open:
        """Opens the database if it rests."""
        if self._opened is None:
            with translated("opening the database"):
                connection = database.connect(self._live.path, vfs=self._vfs)
                self._keeper.attach(connection)
                self._opened = self._begin(connection)
        return self._opened

    @property
    def _opened_keeper(self) -> StateKeeper:
        _ = self._open
        return self._keeper

    @property
    def _connection(self) -> apsw.Connection:
        return self._open.connection

    def _create(self) -> Path:
        self._require_no_remains()
        self._generations.sweep()
        path = self._generations.prepare()
        connection = database.connect(path, vfs=self._vfs, create=True)
        try:
            database.create(connection, cluster=self._cluster, group=self._group, version=self._versions.oldest)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
        self._generations.make_live(path)
        return path

    def _require_no_remains(self) -> None:
        """An interrupted creation leaves a database that has applied nothing. One that has is no longer named by
        CURRENT for some other reason, and may be the last copy. Raises Corrupt.
        """
        for path in self._generations.databases():
            if _applied_in(path, self._vfs) > 0:
                raise Corrupt("meta.current_missing", f"{path} holds data, but no CURRENT says that it is live")

    def _load(self, connection: apsw.Connection, path: Path, *, number: int) -> None:
        self._position = database.read_position(connection)
        self._live = Live(path=path, number=number)
        self._quarantined = self._generations.quarantined()
        self._version = database.read_version(connection)
        self._keeper = StateKeeper(connection, group=self._group)
        self._keeper.load(self._position, version=self._version)
        self._opened = self._begin(connection)

    def _begin(self, connection: apsw.Connection) -> _Open:
        tx = SqliteTx(connection)
        control = ControlCommands(tx) if self._group == CONTROL_GROUP else None
        engine = Engine(tx, control or ShardCommands(tx), self._record, self._keeper.upgraded, versions=self._versions)
        return _Open(connection=connection, control=control, engine=engine)

    def _apply_all(self, entries: Sequence[Entry]) -> tuple[SnapshotMeta, list[Outcome | None]]:
        index, configuration = self._position.index, self._position.configuration
        outcomes: list[Outcome | None] = []
        for entry in entries:
            if entry.index != index + 1:
                raise InvariantViolation("entries must be applied in order", applied=index, entry=entry.index)
            index = entry.index
            match entry.kind:
                case EntryKind.COMMAND:
                    self._at = _position_of(entry, configuration)
                    outcomes.append(self._apply_one(entry))
                    if not len(outcomes) % SETTLED_ENTRIES:
                        self._keeper.settle()
                case EntryKind.CONFIGURATION:
                    configuration = decode_configuration(entry.payload)
                    outcomes.append(None)
                case EntryKind.NOOP:
                    outcomes.append(None)
        position = _position_of(entries[-1], configuration)
        self._open.engine.flush()
        database.write_position(self._connection, position)
        self._keeper.store(position)
        return position, outcomes

    def _apply_one(self, entry: Entry) -> Outcome:
        try:
            envelope = decode_envelope(entry.payload)
        except Corrupt as error:
            raise InvariantViolation("a committed command cannot be read", index=entry.index) from error
        return self._open.engine.apply(envelope, At(index=entry.index, stamp=entry.stamp))

    def _record(self, definition: int) -> None:
        """A checkpoint is applied, and every row is as it is to be compared. One by a definition that is not known
        here is passed over: whoever compares learns nothing from this replica.
        """
        if definition == DEFINITION:
            self._keeper.record(self._at)

    def _roll_back(self) -> None:
        """Back to before the batch, memory too. SQLite may have rolled back by itself already."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._keeper.load(self._position, version=self._version)
            self._opened = self._begin(self._connection)
        except apsw.Error as error:
            self._damaged = Corrupt("meta.database_damaged", f"the database is damaged ({error}) while rolling back")

    def _require_sound(self) -> None:
        if self._damaged is not None:
            raise self._damaged

    def _tell(self, *, everything: bool = False) -> None:
        control = self._open.control
        if control is None or self._on_changed is None:
            return
        touched = frozenset(Part) if everything else frozenset(control.control.touched)
        control.control.touched.clear()
        if touched:
            self._on_changed(touched)

    def _verify(self, source: Path, expected: SnapshotMeta) -> None:
        if not self._files.exists(source):
            raise NotFound("meta.no_snapshot", f"{source} is not there")
        connection = database.connect(source, vfs=self._vfs)
        try:
            database.check_identity(connection, cluster=self._cluster, group=self._group, versions=self._versions)
            found = database.read_position(connection)
        except apsw.Error as error:
            raise Corrupt("meta.snapshot_damaged", f"the snapshot is damaged: {error}") from error
        finally:
            connection.close()
        if found != expected:
            raise Corrupt(
                "meta.snapshot_position",
                f"the snapshot stands at {found.index} of term {found.term}, not where it should ({expected.index})",
            )


def _position_of(entry: Entry, configuration: Configuration) -> SnapshotMeta:
    return SnapshotMeta(index=entry.index, term=entry.term, stamp=entry.stamp, configuration=configuration)


def _applied_in(path: Path, vfs: str) -> int:
    """Where a database stands; 0 if it cannot be read."""
    try:
        connection = database.connect(path, vfs=vfs)
        try:
            return database.read_position(connection).index
        finally:
            connection.close()
    except (apsw.Error, Corrupt):
        return 0
