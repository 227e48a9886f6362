"""The Consensus service: messages in, messages out; the verbs themselves stand in modules of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from dwd.admin.context import AdminContext
from dwd.admin.rpc import group_actions, members, raft_status, recovery
from dwd.admin.rpc.leaders import from_node
from dwd.base.ids import GroupId
from dwd.pb.admin.v1 import consensus_pb2 as pb
from dwd.pb.admin.v1 import consensus_pb2_grpc
from dwd.raft.quorum_loss.plan import decode_order
from dwd.rpc.guard import peer_of

Context = grpc.aio.ServicerContext[Any, Any]


class ConsensusServicer(consensus_pb2_grpc.ConsensusServicer):
    """One a node."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def register(self, server: grpc.aio.Server) -> None:
        """Serve this from `server`, which has not started yet."""
        consensus_pb2_grpc.add_ConsensusServicer_to_server(self, server)

    async def RaftStatus(self, request: pb.RaftStatusRequest, context: Context) -> pb.RaftStatusReply:
        groups = frozenset(GroupId(group) for group in request.groups)
        return await raft_status.raft_status(self._context, groups, local=request.local)

    async def ChangeMembers(self, request: pb.ChangeMembersRequest, context: Context) -> pb.ChangeMembersReply:
        return await members.change_members(self._context, request, forwarded=from_node(context))

    async def TransferLeadership(
        self, request: pb.TransferLeadershipRequest, context: Context
    ) -> pb.TransferLeadershipReply:
        return await group_actions.transfer_leadership(self._context, request, forwarded=from_node(context))

    async def CompactGroup(self, request: pb.CompactGroupRequest, context: Context) -> pb.CompactGroupReply:
        return await group_actions.compact_group(self._context, request, forwarded=from_node(context))

    async def PlanRecovery(self, request: pb.PlanRecoveryRequest, context: Context) -> pb.RecoveryPlan:
        return await recovery.plan_recovery(self._context)

    async def ApplyRecovery(
        self, request: pb.ApplyRecoveryRequest, context: Context
    ) -> AsyncIterator[pb.RecoveryProgress]:
        ordered_by = str(peer_of(context))
        async for progress in recovery.apply_recovery(self._context, request.hash, ordered_by=ordered_by):
            yield progress

    async def ListRecoveries(self, request: pb.ListRecoveriesRequest, context: Context) -> pb.ListRecoveriesReply:
        return recovery.list_recoveries(self._context)

    async def TellEpoch(self, request: pb.TellEpochRequest, context: Context) -> pb.TellEpochReply:
        return pb.TellEpochReply(epoch=self._context.recovery.epoch)

    async def Inspect(self, request: pb.InspectRequest, context: Context) -> pb.InspectReply:
        return recovery.inspect(self._context)

    async def PrepareRecovery(self, request: pb.PrepareRecoveryRequest, context: Context) -> pb.PrepareRecoveryReply:
        await self._context.recovery.prepare(decode_order(request.order))
        return pb.PrepareRecoveryReply()

    async def CommitRecovery(self, request: pb.CommitRecoveryRequest, context: Context) -> pb.CommitRecoveryReply:
        await recovery.commit_here(self._context, request.epoch)
        return pb.CommitRecoveryReply()
