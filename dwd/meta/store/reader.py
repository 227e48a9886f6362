"""Answers from a group's database beside the writer: on the event loop when short, on a few threads when not.

A point read takes some 20 us here, less than a hop to a thread and back.
Invariant: an answer comes from one read transaction of a database that stands at or after the index asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import apsw

from dwd.base.errors import Corrupt, StorageFailed, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, LogIndex
from dwd.meta.core.control import read as control_read
from dwd.meta.core.query import Query
from dwd.meta.core.shard import answer as shard_answer
from dwd.meta.core.tx import Reader
from dwd.meta.store import database
from dwd.meta.store.database import SqliteTx, translated
from dwd.meta.store.machine import Live
from dwd.raft.core.types import ZERO_INDEX

A = TypeVar("A")

THREADS = 2
"""For pages, over all groups of a node."""


class GroupReader:
    """One connection to one group's live database, for one thread at a time."""

    def __init__(self, group: GroupId, live: Callable[[], Live], *, vfs: str) -> None:
        self._group = group
        self._live = live
        self._vfs = vfs
        self._opened: tuple[int, apsw.Connection, SqliteTx] | None = None

    def answer(self, query: Query[A], *, index_min: LogIndex) -> A:
        """Raises what the query names, Unavailable when the database is behind `index_min`, Corrupt."""
        found: A = self.inside(lambda reader: _answer(self._group, reader, query), index_min=index_min)
        return found

    def inside(self, work: Callable[[Reader], A], *, index_min: LogIndex) -> A:
        """`work` in one read transaction; once more if another generation took this one's place meanwhile."""
        while True:
            number = self._live().number
            try:
                return self._inside(work, index_min)
            except (Corrupt, StorageFailed):
                if self._live().number == number:
                    raise
                self.close()

    def _inside(self, work: Callable[[Reader], A], index_min: LogIndex) -> A:
        with translated("reading"):
            connection, tx = self._open()
            connection.execute("BEGIN")
            try:
                row = tx.row("SELECT log_index FROM position")
                if row is None:
                    raise Corrupt("meta.no_position", "the database does not know where it stands")
                if row[0] < index_min:
                    raise Unavailable("meta.behind", f"this copy stands at {row[0]}, {index_min} was asked for")
                return work(tx)
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

    def close(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def _open(self) -> tuple[apsw.Connection, SqliteTx]:
        live = self._live()
        if self._opened is not None and self._opened[0] == live.number:
            return self._opened[1], self._opened[2]
        self.close()
        connection = database.connect_reader(live.path, vfs=self._vfs)
        self._opened = (live.number, connection, SqliteTx(connection))
        return connection, self._opened[2]


class Readers:
    """All ways to read one group: a connection for the loop, and idle ones for the threads."""

    def __init__(self, group: GroupId, live: Callable[[], Live], threads: ThreadPoolExecutor, *, vfs: str) -> None:
        self._group = group
        self._live = live
        self._vfs = vfs
        self._threads = threads
        self._short = GroupReader(group, live, vfs=vfs)
        self._idle: list[GroupReader] = []
        self._closed = False

    def inside(self, work: Callable[[Reader], A], *, index_min: LogIndex = ZERO_INDEX) -> A:
        """Short work, on the loop."""
        return self._short.inside(work, index_min=index_min)

    async def answer(self, query: Query[A], *, index_min: LogIndex) -> A:
        if not isinstance(query, shard_answer.LONG):
            return self._short.answer(query, index_min=index_min)
        reader = self._idle.pop() if self._idle else GroupReader(self._group, self._live, vfs=self._vfs)
        work = asyncio.get_running_loop().run_in_executor(self._threads, _answer_with, reader, query, index_min)
        work.add_done_callback(lambda done: self._put_back(reader, done))
        return await asyncio.shield(work)  # a caller that gives up must not free the reader while it reads

    def close(self) -> None:
        self._closed = True
        self._short.close()
        while self._idle:
            self._idle.pop().close()

    def _put_back(self, reader: GroupReader, done: asyncio.Future[Any]) -> None:
        if not done.cancelled():
            done.exception()  # whoever asked may be gone; then nobody else looks at it
        if self._closed or len(self._idle) >= THREADS:
            reader.close()
        else:
            self._idle.append(reader)


def _answer_with(reader: GroupReader, query: Query[Any], index_min: LogIndex) -> Any:
    return reader.answer(query, index_min=index_min)


def _answer(group: GroupId, reader: Reader, query: Query[Any]) -> Any:
    if group == CONTROL_GROUP:
        return control_read.answer(reader, query)
    return shard_answer.answer(reader, query)
