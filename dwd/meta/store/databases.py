"""All of a node's metadata databases: opened for the host, found by readers, discarded when a replica is given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from dwd.base.errors import Unavailable
from dwd.base.ids import ClusterId, GroupId, hex_id
from dwd.meta.core.control.state import Part
from dwd.meta.core.versions import KNOWN, OLDEST, Versions
from dwd.meta.store.generations import Generations
from dwd.meta.store.machine import SqliteMachine
from dwd.meta.store.reader import THREADS, Readers
from dwd.raft.ports import StateMachine
from dwd.runtime.files import Files

READERS_MAX = 64
"""Groups with connections open for reading; beyond them the first that opened close. Reading anew opens anew."""

OnChanged = Callable[[frozenset[Part]], None]


class Databases:
    """`open` and `discard` are called by the host on worker threads; the rest on the event loop."""

    def __init__(
        self, root: Path, *, cluster: ClusterId, files: Files, vfs: str = "", versions: Versions = KNOWN
    ) -> None:
        self._root = root
        self._cluster = cluster
        self._files = files
        self._vfs = vfs
        self._versions = versions
        self._lock = threading.Lock()
        self._machines: dict[GroupId, SqliteMachine] = {}
        self._readers: dict[GroupId, tuple[SqliteMachine, Readers]] = {}
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="meta-read")
        self._watchers: list[OnChanged] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, group: GroupId) -> StateMachine:
        """For `Host(machines=...)`. Raises Corrupt: the host has it discarded and seeds the group anew."""
        machine = SqliteMachine(
            self._folder(group),
            cluster=self._cluster,
            group=group,
            files=self._files,
            vfs=self._vfs,
            on_changed=self._changed,
            on_rest=partial(self._rested, group),
            versions=self._versions,
        )
        with self._lock:
            self._machines[group] = machine
        self._changed(frozenset(Part))
        return machine

    def discard(self, group: GroupId) -> None:
        """For `Host(discard_machine=...)`: remove all that is stored of it."""
        with self._lock:
            self._machines.pop(group, None)
        Generations(self._folder(group), self._files).discard()

    def version(self, group: GroupId) -> int:
        """The active version as far as it is known here: no group is below the oldest."""
        machine = self._machines.get(group)
        return OLDEST if machine is None else machine.version()

    def readers(self, group: GroupId) -> Readers:
        """Raises Unavailable when the group is not on this node."""
        with self._lock:
            machine = self._machines.get(group)
        if machine is None:
            raise Unavailable("meta.not_here", f"group {group} is not on this node", group=group)
        known = self._readers.get(group)
        if known is not None and known[0] is machine:
            return known[1]
        if known is not None:
            known[1].close()
        readers = Readers(group, lambda: machine.live, self._threads, vfs=self._vfs)
        self._readers[group] = (machine, readers)
        self._loop = asyncio.get_running_loop()
        while len(self._readers) > READERS_MAX:
            self._close_readers(next(iter(self._readers)))
        return readers

    def on_changed(self, callback: OnChanged) -> None:
        """Call `callback`, on whichever thread applied, after control changed."""
        self._watchers.append(callback)

    def close(self) -> None:
        """After the host has stopped."""
        self._threads.shutdown(wait=True)
        for _, readers in self._readers.values():
            readers.close()
        self._readers.clear()
        self._loop = None

    def _rested(self, group: GroupId) -> None:
        """On the group's thread: its machine closed its files, the readers should theirs."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop ended meanwhile: `close` was called
                loop.call_soon_threadsafe(self._close_readers, group)

    def _close_readers(self, group: GroupId) -> None:
        known = self._readers.pop(group, None)
        if known is not None:
            known[1].close()

    def _folder(self, group: GroupId) -> Path:
        return self._root / f"group-{hex_id(group)}"

    def _changed(self, parts: frozenset[Part]) -> None:
        for callback in self._watchers:
            callback(parts)
