"""The leaderships of other nodes, asked over gRPC; this node's own without a wire."""

from __future__ import annotations

from dwd.base.clock import Clock
from dwd.base.ids import GroupId, NodeId
from dwd.meta.core.leaderships import Leading, LedGroup
from dwd.meta.leaderships import LeadingHost, leading_here
from dwd.pb.meta.v1 import meta_pb2, meta_pb2_grpc
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels


class GrpcLeaderships:
    """`dwd.meta.leaderships.Leaderships` over the channels of the node."""

    def __init__(self, node: NodeId, host: LeadingHost, channels: Channels, clock: Clock) -> None:
        self._node = node
        self._host = host
        self._channels = channels
        self._clock = clock

    async def tell(self, node: NodeId, *, seconds: float) -> Leading:
        if node == self._node:
            return leading_here(self._host)
        request = meta_pb2.TellLeadershipsRequest()
        reply = await call(self._stub(node).TellLeaderships, request, seconds=seconds, mutation=False)
        return decode_leading(reply)

    async def hand_over(self, node: NodeId, group: GroupId, to: NodeId, *, seconds: float) -> None:
        if node == self._node:
            await self._host.transfer(group, to, deadline=self._clock.monotonic() + seconds)
            return
        request = meta_pb2.HandOverRequest(group=group, to=to, milliseconds_left=int(seconds * 1000))
        await call(self._stub(node).HandOver, request, seconds=seconds, mutation=True)

    def _stub(self, node: NodeId) -> meta_pb2_grpc.MetaAsyncStub:
        return meta_pb2_grpc.MetaStub(self._channels.to(node))


def encode_leading(leading: Leading) -> meta_pb2.TellLeadershipsReply:
    made = meta_pb2.TellLeadershipsReply(reluctant=leading.reluctant)
    for led in leading.groups:
        made.groups.add(group=led.group, fit=led.fit)
    return made


def decode_leading(reply: meta_pb2.TellLeadershipsReply) -> Leading:
    return Leading(
        groups=tuple(
            LedGroup(group=GroupId(led.group), fit=tuple(NodeId(node) for node in led.fit)) for led in reply.groups
        ),
        reluctant=reply.reluctant,
    )
