"""The audit of other nodes, asked over gRPC."""

from __future__ import annotations

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId
from dwd.meta.core.agreement import Evidence
from dwd.pb.meta.v1 import meta_pb2, meta_pb2_grpc
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels


class GrpcAudits:
    """`dwd.meta.audit.Audits` over the channels of the node."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def testify(
        self, node: NodeId, group: GroupId, replica: ReplicaId, index: LogIndex, *, seconds: float
    ) -> Evidence:
        request = meta_pb2.TestifyRequest(group=group, replica=replica, index=index)
        reply = await call(self._stub(node).Testify, request, seconds=seconds, mutation=False)
        return Evidence(digest=reply.digest, rot=reply.rot, quarantined=reply.quarantined)

    async def quarantine(
        self, node: NodeId, group: GroupId, replica: ReplicaId, reason: str, *, seconds: float
    ) -> None:
        request = meta_pb2.QuarantineRequest(group=group, replica=replica, reason=reason)
        await call(self._stub(node).Quarantine, request, seconds=seconds, mutation=True)

    async def suspect(self, node: NodeId, group: GroupId, replica: ReplicaId, reason: str, *, seconds: float) -> None:
        request = meta_pb2.SuspectRequest(group=group, replica=replica, reason=reason)
        await call(self._stub(node).Suspect, request, seconds=seconds, mutation=False)

    def _stub(self, node: NodeId) -> meta_pb2_grpc.MetaAsyncStub:
        return meta_pb2_grpc.MetaStub(self._channels.to(node))
