"""How the hosts of a cluster reach each other: a port with a gRPC twin (`dwd.raft.rpc`) and an in-memory one in tests.

Raft tolerates loss, so `send` never waits: what does not fit a bounded queue is dropped. Snapshots are bulk and
travel on streams of their own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term
from dwd.raft.core.messages import Message
from dwd.raft.core.types import NO_REPLICA, SnapshotMeta
from dwd.raft.snapshots.pages import Extent


class Absence(IntEnum):
    """Why a node does not answer for a replica."""

    UNKNOWN = 0
    """The replica does not live here: it lost its log, was dropped, or never came."""
    QUARANTINED = 1
    """The replica is here and broken (corrupt log or state); it takes no part until it is replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """The answer of a node to a message for a replica it cannot speak for. `source` is that replica."""

    source: ReplicaId
    target: ReplicaId
    reason: Absence


@dataclass(frozen=True, slots=True, kw_only=True)
class Nap:
    """A leader asks a member to rest: it stands at `index` of `term`, all is applied, and nothing more is to come."""

    source: ReplicaId
    target: ReplicaId
    term: Term
    index: LogIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class NapReply:
    """`agreed`: the member rests from now on, until it hears anything else of the group. Else it is awake."""

    source: ReplicaId
    target: ReplicaId
    term: Term
    index: LogIndex
    agreed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A node lives: sent for all groups that rest, to every node with a member of one. In the group `NODES`."""

    boot: int
    """Random bits of the sender's run: other ones tell that it started anew and leads nothing any more."""
    resting: int
    """Digest of the groups that the sender leads, that rest, and that have a member on the receiver."""
    source: ReplicaId = NO_REPLICA
    target: ReplicaId = NO_REPLICA


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What the sender's writes of the log take until they are durable: the 99th percentile. In the group `NODES`."""

    sync_us: int
    source: ReplicaId = NO_REPLICA
    target: ReplicaId = NO_REPLICA


NODES = GroupId((1 << 63) - 1)
"""The group of parcels that speak for a node instead of a replica. No real group has this id."""

Parcel = Message | Absent | Nap | NapReply | Beat | Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequest:
    """Asks the sender of an offer for a part of its copy. `token` 0 lets it make one, or share one that stands at
    `index_min` or later; the number from a header means that very copy (NotFound: it is gone, start again).

    Not `ranged`: all from `offset` on, as daemons asked before there were ranges. Ranged: pages of
    [offset, offset + length) but for those whose hashes are in `page_hashes`, in place; length 0 asks for the header.
    """

    group: GroupId
    source: ReplicaId
    target: ReplicaId
    index_min: LogIndex
    token: int
    offset: int
    ranged: bool = False
    length: int = 0
    page_hashes: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHeader:
    """First item of every answer: what the copy holds, the number that names it, and what the whole file hashes to
    (empty from a daemon that knows no ranges: it sends everything).
    """

    token: int
    meta: SnapshotMeta
    bytes_total: int
    digest: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotChunk:
    """Up to CHUNK_BYTES. `data` belongs at `offset`, or piece by piece into `extents` if there are any, which ascend
    from `offset`; `crc32c` covers `data`.
    """

    offset: int
    data: bytes
    crc32c: int
    extents: tuple[Extent, ...] = ()


SnapshotItem = SnapshotHeader | SnapshotChunk


class TransportHandler(Protocol):
    """The host's side. The first two are called on the event loop and return at once."""

    def received(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        """Parcels from `node`, whose identity the transport has proven."""
        ...

    def broken(self, node: NodeId) -> None:
        """A stream to or from `node` just broke."""
        ...

    def serve_snapshot(self, node: NodeId, request: SnapshotRequest) -> AsyncGenerator[SnapshotItem, None]:
        """A header, then chunks in order. Raises NotFound, Corrupt (no such range), Busy, NoSpace, Unavailable."""
        ...

    async def prepare_replica(self, group: GroupId, replica: ReplicaId, *, witness: bool) -> None:
        """`Host.create_replica`, asked for by a leader's reconciler."""
        ...

    async def drop_replica(self, group: GroupId, replica: ReplicaId) -> None:
        """`Host.drop_replica`, likewise, for a replica that is no longer a member; another one is left alone."""
        ...


class Transport(Protocol):
    """One node's way to all others."""

    async def start(self, handler: TransportHandler) -> None: ...

    def send(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        """Queue for `node`, in order a kind (urgent, appends); drops when the bounded queue is full."""
        ...

    def fetch_snapshot(self, node: NodeId, request: SnapshotRequest) -> AsyncGenerator[SnapshotItem, None]:
        """The other end of `serve_snapshot`. Raises what that raises, and Unavailable when the stream breaks."""
        ...

    async def close(self) -> None: ...
