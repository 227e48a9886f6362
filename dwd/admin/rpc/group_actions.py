"""Leadership handed over, logs cut on demand."""

from __future__ import annotations

import asyncio

from dwd.admin.context import OPERATION_SECONDS, AdminContext
from dwd.admin.rpc.leaders import at_leader, node_named, stub_of
from dwd.admin.rpc.raft_status import raft_status
from dwd.base.errors import DwError, NotFound
from dwd.base.ids import GroupId, NodeId, hex_id, parse_hex_id
from dwd.pb.admin.v1 import consensus_pb2 as pb
from dwd.rpc.calls import call

TRANSFER_LEADERSHIP_SECONDS = 10.0


async def transfer_leadership(
    context: AdminContext, request: pb.TransferLeadershipRequest, *, forwarded: bool
) -> pb.TransferLeadershipReply:
    """Returns once the new leader leads. Raises NotFound, SafetyRefused, DeadlineExceeded, Unavailable."""
    return await at_leader(
        context,
        GroupId(request.group),
        forwarded=forwarded,
        here=lambda: _transfer(context, request),
        there=lambda stub, seconds: call(stub.TransferLeadership, request, seconds=seconds, mutation=True),
    )


async def _transfer(context: AdminContext, request: pb.TransferLeadershipRequest) -> pb.TransferLeadershipReply:
    group = GroupId(request.group)
    to = node_named(context, request.node) if request.node else None
    began = context.clock.monotonic()
    leader = await context.host.transfer(group, to, deadline=context.deadline(TRANSFER_LEADERSHIP_SECONDS))
    return pb.TransferLeadershipReply(
        group=group,
        leader=hex_id(leader),
        previous=hex_id(context.node),
        seconds=context.clock.monotonic() - began,
    )


async def compact_group(
    context: AdminContext, request: pb.CompactGroupRequest, *, forwarded: bool
) -> pb.CompactGroupReply:
    """On the node named, or on every node that holds a replica; a node where it fails says why.
    Raises NotFound (no such group, node, or no replica there).
    """
    group = GroupId(request.group)
    if forwarded:
        return pb.CompactGroupReply(nodes=[await _compact_here(context, group)])
    (found,) = (await raft_status(context, frozenset({group}), local=False)).groups
    holders = [NodeId(parse_hex_id(member.node)) for member in found.members]
    if request.node:
        node = node_named(context, request.node)
        if node not in holders:
            raise NotFound(
                "raft.no_member",
                f"node {request.node} holds no replica of group {group}",
                hint=f"`dwctl raft member list {group}` shows who does",
            )
        holders = [node]
    return pb.CompactGroupReply(nodes=await asyncio.gather(*(_compact(context, node, request) for node in holders)))


async def _compact(context: AdminContext, node: NodeId, request: pb.CompactGroupRequest) -> pb.Compacted:
    if node == context.node:
        return await _compact_here(context, GroupId(request.group))
    try:
        stub = stub_of(context, node)
        (done,) = (await call(stub.CompactGroup, request, seconds=OPERATION_SECONDS, mutation=True)).nodes
    except DwError as error:
        return pb.Compacted(node=hex_id(node), group=request.group, error=str(error))
    return done


async def _compact_here(context: AdminContext, group: GroupId) -> pb.Compacted:
    try:
        report = await context.host.compact(group)
    except DwError as error:
        return pb.Compacted(node=hex_id(context.node), group=group, error=str(error))
    return pb.Compacted(
        node=hex_id(context.node),
        group=group,
        first_index=report.first,
        applied_index=report.applied,
        entries_removed=report.entries_removed,
        bytes_removed=report.bytes_removed,
    )
