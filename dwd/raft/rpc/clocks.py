"""What time it is on another node: one small call, answered from memory."""

from __future__ import annotations

from typing import Any

import grpc

from dwd.base.clock import Clock
from dwd.base.ids import NodeId
from dwd.pb.raft.v1 import raft_pb2 as pb
from dwd.pb.raft.v1 import raft_pb2_grpc as wire
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels
from dwd.rpc.server import RpcServer


class GrpcClocks:
    """Implements `PeerClocks`; `register` lets others ask this node."""

    def __init__(self, channels: Channels, clock: Clock) -> None:
        self._channels = channels
        self._clock = clock

    def register(self, server: RpcServer) -> None:
        server.add(lambda grpc_server: wire.add_ClocksServicer_to_server(_Servicer(self._clock), grpc_server))

    async def unix_ms(self, node: NodeId, *, seconds: float) -> int:
        """Raises DwError."""
        stub = wire.ClocksStub(self._channels.to(node))
        reply = await call(stub.Read, pb.ReadClockRequest(), seconds=seconds, mutation=False)
        return reply.unix_ms


class _Servicer(wire.ClocksServicer):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def Read(
        self, request: pb.ReadClockRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReadClockReply:
        return pb.ReadClockReply(unix_ms=self._clock.unix_ms())
