"""What a replica needs of its host, in one value."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dwd.base.clock import Clock
from dwd.base.ids import GroupId, NodeId
from dwd.raft.clock_guard import ClockGuard
from dwd.raft.complaints import Complaints
from dwd.raft.core.messages import SnapshotOffer
from dwd.raft.disk_pace import DiskPace
from dwd.raft.options import HostOptions
from dwd.raft.persister import Persister
from dwd.raft.ports import LogStore
from dwd.raft.transport import Nap, NapReply, Transport

if TYPE_CHECKING:
    from dwd.raft.replica import Replica


class NapTaker(Protocol):
    """`dwd.raft.hibernation`: a member is asked to rest, or answers."""

    def __call__(self, replica: Replica, node: NodeId, parcel: Nap | NapReply) -> None: ...


class Spawn(Protocol):
    """Background work for a group: an error in it stops that group on this node, a StorageFailed the node."""

    def __call__(self, group: GroupId, work: Coroutine[Any, Any, None], *, name: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    node: NodeId
    boot: int
    """Random bits that tell this run from earlier ones."""
    clock: Clock
    guard: ClockGuard
    """What time goes into the log, and whether a wrong clock keeps this node from leading."""
    pace: DiskPace
    """How fast the log's disk is: on a slow one replicas stand late."""
    departing: Callable[[], bool]
    """This node is about to stop: it takes no leadership any more."""
    options: HostOptions
    complaints: Complaints
    log: LogStore
    persister: Persister
    transport: Transport
    spawn: Spawn
    nap: NapTaker
    stir: Callable[[GroupId], None]
    """The group has something to do: pump it at the loop's next turn."""
    fail: Callable[[GroupId, BaseException], None]
    """The group's replica is broken: stop it on this node."""
    fetch_snapshot: Callable[[GroupId, SnapshotOffer], None]
    """Start or replace the transfer of an offer; its end is told to the replica."""
