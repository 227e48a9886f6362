"""The server's side: frames in, snapshots out, replicas prepared. Who may call, the server's admission has decided."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from dwd.base.errors import PermissionDenied, Unavailable, VersionRefused
from dwd.base.ids import GroupId, NodeId, ReplicaId, hex_id
from dwd.pb.raft.v1 import raft_pb2 as pb
from dwd.pb.raft.v1 import raft_pb2_grpc as wire
from dwd.raft.quorum_loss.epochs import Epochs, Verdict, epoch_name
from dwd.raft.rpc import decode, encode
from dwd.raft.telemetry import REFUSED
from dwd.raft.transport import TransportHandler
from dwd.rpc.guard import peer_of
from dwd.rpc.server import RpcServer
from dwd.rpc.wire_versions import WireVersions, stated

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]

_log = structlog.get_logger("dwd.raft")

SERVICE = "dwd.raft.v1.Raft"


class RaftService:
    """Closed until `open` gives it the host. `announce` tells a node the recovery epoch of this one; `introduce` hears
    where nodes are, from whom a replica is created for.
    """

    def __init__(
        self,
        node: NodeId,
        epochs: Epochs,
        announce: Callable[[NodeId], None],
        introduce: Callable[[Mapping[NodeId, str]], None],
        versions: WireVersions,
    ) -> None:
        self._node = node
        self._epochs = epochs
        self._announce = announce
        self.introduce = introduce
        self._versions = versions
        self._told: dict[NodeId, str] = {}
        """What the log says of nodes that are refused: once each, until it changes. Members only get here."""
        self._handler: TransportHandler | None = None

    def register(self, server: RpcServer) -> None:
        server.add_generic(
            SERVICE,
            {
                "Deliver": grpc.stream_unary_rpc_method_handler(self.deliver),
                "FetchSnapshot": grpc.unary_stream_rpc_method_handler(
                    self.fetch_snapshot,
                    request_deserializer=pb.SnapshotRequest.FromString,
                    response_serializer=pb.SnapshotItem.SerializeToString,
                ),
            },
        )
        server.add(lambda grpc_server: wire.add_RaftAdminServicer_to_server(_Admin(self), grpc_server))

    def open(self, handler: TransportHandler) -> None:
        self._handler = handler

    def close(self) -> None:
        self._handler = None

    def handler(self) -> TransportHandler:
        """Raises Unavailable before the host has started, and after it stopped."""
        if self._handler is None:
            raise Unavailable("raft.not_running", "this node does not run its groups yet, or no longer")
        return self._handler

    async def deliver(self, frames: AsyncIterator[bytes], context: Context) -> bytes:
        """One peer's stream. It ends with the first frame that is not for us, or cannot be read."""
        caller = caller_node(context)
        self._check_version(caller, context)
        async for encoded in frames:
            handler = self.handler()
            source, target, epoch, parcels = decode.frame(encoded)
            if source != caller:
                raise PermissionDenied("raft.wrong_source", "a node speaks for another")
            if target != self._node:
                raise VersionRefused("raft.wrong_target", "this is not the node that was meant")
            if epoch != self._epochs.current:
                await self.check_epoch(caller, epoch)
            for group, messages in parcels.items():
                handler.received(caller, group, messages)
        return b""

    def _check_version(self, caller: NodeId, context: Context) -> None:
        """Raises VersionRefused when the caller and this node have no version in common, InvalidArgument."""
        try:
            self._versions.require_common(stated(context.invocation_metadata() or ()))
        except VersionRefused as error:
            REFUSED.add(1, reason="wire_version")
            if self._told.get(caller) != error.message:
                self._told[caller] = error.message
                _log.error("a node was refused", peer=hex_id(caller), error=error.message, hint=error.hint)
            raise
        _ = self._told.pop(caller, None)

    async def check_epoch(self, caller: NodeId, epoch: int) -> None:
        """Raises PermissionDenied when the caller lives in another recovery epoch; one of an older is told so."""
        verdict = await self._epochs.judge(caller, epoch)
        if verdict is Verdict.ACCEPT:
            return
        if verdict is Verdict.REFUSE_OLD:
            self._announce(caller)
        raise PermissionDenied(
            "raft.epoch_refused",
            f"the caller is of recovery epoch {epoch_name(epoch)}, this node of {epoch_name(self._epochs.current)}",
            hint="the node of the older epoch has to be wiped",
        )

    async def fetch_snapshot(
        self, request: pb.SnapshotRequest, context: Context
    ) -> AsyncGenerator[pb.SnapshotItem, None]:
        await self.check_epoch(caller_node(context), request.epoch)
        items = self.handler().serve_snapshot(caller_node(context), decode.snapshot_request(request))
        async with aclosing(items):
            async for item in items:
                yield encode.snapshot_item(item)


class _Admin(wire.RaftAdminServicer):
    def __init__(self, service: RaftService) -> None:
        self._service = service

    async def CreateReplica(self, request: pb.CreateReplicaRequest, context: Context) -> pb.CreateReplicaReply:
        handler = self._service.handler()
        await self._service.check_epoch(caller_node(context), request.epoch)
        self._service.introduce({NodeId(node): address for node, address in request.addresses.items()})
        await handler.prepare_replica(GroupId(request.group), ReplicaId(request.replica), witness=request.witness)
        return pb.CreateReplicaReply()

    async def DropReplica(self, request: pb.DropReplicaRequest, context: Context) -> pb.DropReplicaReply:
        handler = self._service.handler()
        await self._service.check_epoch(caller_node(context), request.epoch)
        await handler.drop_replica(GroupId(request.group), ReplicaId(request.replica))
        return pb.DropReplicaReply()


def caller_node(context: Context) -> NodeId:
    """Raises PermissionDenied for anyone but a node."""
    node = peer_of(context).node_id
    if node is None:
        raise PermissionDenied("raft.nodes_only", "only nodes of the cluster speak raft")
    return node
