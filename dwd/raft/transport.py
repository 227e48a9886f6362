"""How the hosts of a cluster reach each other: a port with a gRPC twin (`dwd.raft.rpc`) and an in-memory one in tests.

Raft tolerates loss, so `send` never waits: what does not fit a bounded queue is dropped. Snapshots are bulk and
travel on streams of their own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId
from dwd.raft.core.messages import Message
from dwd.raft.core.types import SnapshotMeta


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


Parcel = Message | Absent


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequest:
    """Asks the sender of an offer for its copy. `token` 0 starts a transfer; the number from a header resumes that
    very copy at `offset` (NotFound: it is gone, start again).
    """

    group: GroupId
    source: ReplicaId
    target: ReplicaId
    index_min: LogIndex
    token: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHeader:
    """First item of a transfer: what the copy holds, and the number that resumes it."""

    token: int
    meta: SnapshotMeta
    bytes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotChunk:
    """Up to `CHUNK_BYTES` at `offset`; `crc32c` covers `data`."""

    offset: int
    data: bytes
    crc32c: int


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
        """A header, then chunks in order. Raises NotFound, Busy, NoSpace, Unavailable."""
        ...

    async def prepare_replica(self, group: GroupId, replica: ReplicaId) -> None:
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
