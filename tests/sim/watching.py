"""What checkers see: wrappers around the parts of a node that tell a `Watch` of everything that matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId
from dwd.base.units import KIB
from dwd.raft import lifecycle
from dwd.raft.core.effects import Effects
from dwd.raft.core.node import Node
from dwd.raft.core.state import State
from dwd.raft.core.types import Entry, SnapshotMeta
from dwd.raft.log import records
from dwd.raft.ports import LogWrite
from dwd.raft.transport import Parcel


class Checker:
    """One property. Overrides what it wants to see; `report`s what breaks it."""

    name = ""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def report(self, message: str) -> None:
        self._watch.report(self.name, message)

    def effects(self, state: State, effects: Effects) -> None: ...

    def recovered(self, group: GroupId, replica: ReplicaId, log: Any) -> None: ...

    def written(self, write: LogWrite) -> None: ...

    def sending(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None: ...

    def applied(self, node: NodeId, group: GroupId, entries: Sequence[Entry], results: Sequence[Any]) -> None: ...

    def installed(self, node: NodeId, group: GroupId, meta: SnapshotMeta) -> None: ...

    def acknowledged(self, group: GroupId, index: LogIndex, value: str) -> None: ...

    def process_ended(self, node: NodeId) -> None: ...


@dataclass(frozen=True, slots=True)
class Violation:
    checker: str
    seconds: float
    message: str


class Watch:
    """Hands on what happens to all checkers that care, and keeps what they report."""

    def __init__(self, now: Any) -> None:
        self._now = now
        self.violations: list[Violation] = []
        self.checkers: list[Checker] = []
        self._wanted: dict[str, list[Any]] = {}

    def use(self, checkers: Sequence[Checker]) -> None:
        self.checkers = list(checkers)
        for name in (
            "effects", "recovered", "written", "sending", "applied", "installed", "acknowledged", "process_ended",
        ):  # fmt: skip
            own = [getattr(c, name) for c in checkers if getattr(type(c), name) is not getattr(Checker, name)]
            self._wanted[name] = own

    def report(self, checker: str, message: str) -> None:
        self.violations.append(Violation(checker, self._now(), message))

    def effects(self, state: State, effects: Effects) -> None:
        for see in self._wanted["effects"]:
            see(state, effects)

    def recovered(self, group: GroupId, replica: ReplicaId, log: Any) -> None:
        for see in self._wanted["recovered"]:
            see(group, replica, log)

    def written(self, write: LogWrite) -> None:
        for see in self._wanted["written"]:
            see(write)

    def sending(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        for see in self._wanted["sending"]:
            see(node, group, parcels)

    def applied(self, node: NodeId, group: GroupId, entries: Sequence[Entry], results: Sequence[Any]) -> None:
        for see in self._wanted["applied"]:
            see(node, group, entries, results)

    def installed(self, node: NodeId, group: GroupId, meta: SnapshotMeta) -> None:
        for see in self._wanted["installed"]:
            see(node, group, meta)

    def acknowledged(self, group: GroupId, index: LogIndex, value: str) -> None:
        for see in self._wanted["acknowledged"]:
            see(group, index, value)

    def process_ended(self, node: NodeId) -> None:
        for see in self._wanted["process_ended"]:
            see(node)


class WatchedLog:
    """A LogStore that tells what became durable, when it says so."""

    def __init__(self, inner: Any, watch: Watch, node: NodeId) -> None:
        self._inner = inner
        self._watch = watch
        self._node = node
        for log in inner.recovered().values():
            watch.recovered(log.group, log.replica, log)

    async def write(self, writes: Sequence[LogWrite]) -> None:
        await self._inner.write(writes)
        for write in writes:
            self._watch.written(write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class WatchedMachine:
    """A StateMachine that tells what it applied."""

    def __init__(self, inner: Any, watch: Watch, node: NodeId, group: GroupId) -> None:
        self._inner = inner
        self._watch = watch
        self._node = node
        self._group = group

    def apply(self, entries: Sequence[Entry]) -> Sequence[Any]:
        results: Sequence[Any] = self._inner.apply(entries)
        self._watch.applied(self._node, self._group, entries, results)
        return results

    def install_snapshot(self, source: Path, expected: SnapshotMeta) -> None:
        self._inner.install_snapshot(source, expected)
        self._watch.installed(self._node, self._group, expected)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class WatchedNode(Node):
    """A core whose effects the watch of the present world sees first."""

    __slots__ = ()
    watch: Watch | None = None

    def take_effects(self) -> Effects:
        effects = super().take_effects()
        if WatchedNode.watch is not None:
            WatchedNode.watch.effects(self._state, effects)
        return effects


@contextmanager
def small_frames() -> Iterator[None]:
    """Inside, a log's frame holds few entries, as its segments here are small."""
    before, records.FRAME_ENTRIES_BYTES = records.FRAME_ENTRIES_BYTES, 8 * KIB  # type: ignore[misc]
    try:
        yield
    finally:
        records.FRAME_ENTRIES_BYTES = before  # type: ignore[misc]


class watched_cores:  # noqa: N801 - a context manager
    """Inside, replicas run WatchedNodes that tell `watch`."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __enter__(self) -> None:
        WatchedNode.watch = self._watch
        lifecycle.Node = WatchedNode  # type: ignore[misc]

    def __exit__(self, *_: object) -> None:
        lifecycle.Node = Node  # type: ignore[misc]
        WatchedNode.watch = None
