"""The Consensus service: messages in, messages out; the verbs themselves stand in modules of their own."""

from __future__ import annotations

from typing import Any

import grpc

from dwd.admin.context import AdminContext
from dwd.admin.rpc import group_actions, members, raft_status
from dwd.admin.rpc.leaders import from_node
from dwd.base.ids import GroupId
from dwd.pb.admin.v1 import consensus_pb2 as pb
from dwd.pb.admin.v1 import consensus_pb2_grpc

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
