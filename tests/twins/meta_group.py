"""One metadata group without Raft: a real database, a log made up on the spot."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw

from dwd.base.blocks import StoredBlock
from dwd.base.errors import DwError
from dwd.base.ids import BlockId, ClusterId, GroupId, LayoutEpoch, LogIndex, Stamp, Term, stamp_of
from dwd.meta.codec import encode_envelope
from dwd.meta.core.apply import Command, Envelope, RegisterSession
from dwd.meta.core.fencing import Fence
from dwd.meta.core.outcome import Outcome
from dwd.meta.core.query import Query
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.versions import KNOWN, Versions
from dwd.meta.store.machine import SqliteMachine
from dwd.meta.store.reader import GroupReader
from dwd.raft.core.types import Entry, EntryKind
from dwd.runtime.os_files import OsFiles

A = TypeVar("A")
CLUSTER = ClusterId("ab" * 16)
SHARD = GroupId(1)
EPOCH_MS = 1_700_000_000_000
SESSION = 7


def block(number: int, length: int = 100, *, ms: int = EPOCH_MS, **more: Any) -> StoredBlock:
    """A block whose id says `number`."""
    identity = BlockId(stamp_of(ms).to_bytes(8) + number.to_bytes(8))
    return StoredBlock(
        block=identity, profile="rs-4-2", length=length, crc32c=number, layout_epoch=LayoutEpoch(1), **more
    )


class Group:
    """`send` applies one command as the next entry of the log, in a batch of its own."""

    def __init__(
        self, directory: Path, group: GroupId = SHARD, *, on_changed: Any = None, versions: Versions = KNOWN
    ) -> None:
        self.directory = directory
        self.group = group
        self.machine = SqliteMachine(
            directory, cluster=CLUSTER, group=group, files=OsFiles(), on_changed=on_changed, versions=versions
        )
        self.reader = GroupReader(group, lambda: self.machine.live, vfs="")
        self.sequence = 0
        self.now_ms = EPOCH_MS
        if self.machine.position().index == 0:
            self.machine.apply([self.entry(RegisterSession())])

    def entry(
        self,
        command: Command,
        *,
        after: int = 0,
        session: int = SESSION,
        sequence: int | None = None,
        lowest: int | None = None,
        version: int | None = None,
        fence: Fence | None = None,
    ) -> Entry:
        """The entry `after` places behind the next one."""
        index = LogIndex(self.machine.position().index + 1 + after)
        used = self.sequence if sequence is None else sequence
        envelope = Envelope(
            session=session,
            sequence=used,
            lowest=used if lowest is None else lowest,
            version=self.machine.version() if version is None else version,
            command=command,
            fence=fence,
        )
        return Entry(
            index=index,
            term=Term(1),
            kind=EntryKind.COMMAND,
            stamp=Stamp(stamp_of(self.now_ms) + index),
            payload=encode_envelope(envelope),
        )

    def outcome(self, command: Command, **options: Any) -> Outcome:
        self.sequence += 1
        found: Any = self.machine.apply([self.entry(command, **options)])[0]
        result: Outcome = found
        return result

    def send(self, command: Command) -> Receipt:
        """Raises what the command earned."""
        outcome = self.outcome(command)
        if isinstance(outcome, DwError):
            raise outcome
        return outcome

    def ask(self, query: Query[A]) -> A:
        return self.reader.answer(query, index_min=self.machine.position().index)

    def sql(self, statement: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """What an operator would see."""
        connection = apsw.Connection(str(self.machine.live.path))
        try:
            return list(connection.execute(statement, bindings))
        finally:
            connection.close()

    def close(self) -> None:
        self.reader.close()
        self.machine.close()


def content_hash(path: Path, *, without: Sequence[str] = (), vfs: str = "") -> str:
    """Of all rows of all tables."""
    connection = apsw.Connection(str(path), vfs=vfs or None)
    digest = hashlib.sha256()
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    for name in names:
        if name in without:
            continue
        for row in sorted(connection.execute(f"SELECT * FROM {name}"), key=repr):
            digest.update(f"{name}{row!r}".encode())
    connection.close()
    return digest.hexdigest()
