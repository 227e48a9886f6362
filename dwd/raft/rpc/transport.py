"""The real transport: gRPC streams between nodes.

Two lanes to each node, "urgent" for small messages and "appends": a batch of megabytes never delays a heartbeat by
more than HTTP/2 interleaving does. They open when there is something to say and stay open.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

import structlog

from dwd.base.errors import InvariantViolation
from dwd.base.ids import GroupId, NodeId
from dwd.pb.raft.v1 import raft_pb2_grpc as wire
from dwd.raft.core.messages import Append
from dwd.raft.quorum_loss.epochs import Epochs
from dwd.raft.rpc import decode, encode
from dwd.raft.rpc.encode import Encoder
from dwd.raft.rpc.lane import PeerLane
from dwd.raft.rpc.service import RaftService
from dwd.raft.transport import Parcel, SnapshotItem, SnapshotRequest, TransportHandler
from dwd.rpc.calls import translated
from dwd.rpc.channels import Channels, Lane
from dwd.rpc.server import RpcServer
from dwd.rpc.wire_versions import WIRE, WireVersions
from dwd.runtime.tasks import Tasks

_log = structlog.get_logger("dwd.raft")

PEERS_MAX = 10_000
TRANSFER_SECONDS_MAX = 24 * 3600.0
"""One stream of a snapshot; the receiver watches each chunk."""


class GrpcTransport:
    """Implements `Transport`. `register` its services before the server starts; calls are refused until `start`."""

    def __init__(
        self,
        *,
        node: NodeId,
        channels: Channels,
        epochs: Epochs,
        introduce: Callable[[Mapping[NodeId, str]], None],
        versions: WireVersions = WIRE,
    ) -> None:
        self._channels = channels
        self._epochs = epochs
        self._versions = versions
        self._encoder = Encoder(node, lambda: epochs.current)
        self._service = RaftService(node, epochs, self._announce, introduce, versions)
        self._lanes: dict[NodeId, tuple[PeerLane, PeerLane]] = {}
        self._tasks = Tasks("raft.transport", _failed)
        self._handler: TransportHandler | None = None

    def register(self, server: RpcServer) -> None:
        self._service.register(server)

    async def start(self, handler: TransportHandler) -> None:
        self._handler = handler
        self._service.open(handler)

    def send(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        lanes = self._lanes.get(node)
        if lanes is None:
            if self._handler is None:
                return
            lanes = self._open(node, self._handler)
        appends = [parcel for parcel in parcels if isinstance(parcel, Append)]
        if not appends:
            lanes[0].send(group, parcels)
            return
        lanes[1].send(group, appends)
        if len(appends) < len(parcels):
            lanes[0].send(group, [parcel for parcel in parcels if not isinstance(parcel, Append)])

    async def fetch_snapshot(self, node: NodeId, request: SnapshotRequest) -> AsyncGenerator[SnapshotItem, None]:
        stub = wire.RaftStub(self._channels.to(node, Lane.BULK))
        with translated(sent=False):
            asked = encode.snapshot_request(request)
            asked.epoch = self._epochs.current
            call = stub.FetchSnapshot(asked, timeout=TRANSFER_SECONDS_MAX)
            try:
                async for item in call:
                    yield decode.snapshot_item(item)
            finally:
                call.cancel()

    async def close(self) -> None:
        self._handler = None
        self._service.close()
        await self._tasks.close()
        self._lanes.clear()

    def _announce(self, node: NodeId) -> None:
        """Tell `node` this node's recovery epoch."""
        if self._handler is not None:
            lanes = self._lanes.get(node) or self._open(node, self._handler)
            lanes[0].announce()

    def _open(self, node: NodeId, handler: TransportHandler) -> tuple[PeerLane, PeerLane]:
        if len(self._lanes) >= PEERS_MAX:
            raise InvariantViolation("more peers than a cluster can have")
        urgent, appends = (
            PeerLane(
                node,
                name,
                channels=self._channels,
                encoder=self._encoder,
                versions=self._versions,
                on_broken=handler.broken,
            )
            for name in ("urgent", "appends")
        )
        for lane, name in ((urgent, "urgent"), (appends, "appends")):
            _ = self._tasks.spawn(lane.run(), name=f"{name}-{node:x}")
        self._lanes[node] = (urgent, appends)
        return urgent, appends


def _failed(name: str, error: BaseException) -> None:
    _log.error("a lane of the transport failed", task=name, exc_info=error)
