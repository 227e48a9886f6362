"""Whatever only a group's leader can do: found, and handed on once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from dwd.admin.context import OPERATION_SECONDS, AdminContext
from dwd.admin.rpc.raft_status import raft_status
from dwd.base.errors import NotFound, Unavailable
from dwd.base.ids import GroupId, NodeId, hex_id, parse_hex_id
from dwd.pb.admin.v1 import consensus_pb2_grpc
from dwd.rpc.guard import peer_of
from dwd.security.peers import PeerKind

Answer = TypeVar("Answer")
Stub = consensus_pb2_grpc.ConsensusStub


def from_node(context: object) -> bool:
    """Whether another node handed this on: then it is done here or refused, never handed on again."""
    return peer_of(context).kind is PeerKind.NODE  # type: ignore[arg-type]


def stub_of(context: AdminContext, node: NodeId) -> consensus_pb2_grpc.ConsensusAsyncStub:
    return Stub(context.channels.to(node))


async def at_leader(
    context: AdminContext,
    group: GroupId,
    *,
    forwarded: bool,
    here: Callable[[], Awaitable[Answer]],
    there: Callable[[consensus_pb2_grpc.ConsensusAsyncStub, float], Awaitable[Answer]],
) -> Answer:
    """`here` if this node leads the group, else `there` with a stub of the one that does and the seconds it has.
    Raises NotFound (no such group), Unavailable (no leader).
    """
    leader = await leader_of(context, group, search=not forwarded)
    if leader == context.node:
        return await here()
    if forwarded or not leader:
        raise Unavailable(
            "raft.no_leader",
            f"group {group} has no leader now",
            hint=f"see `dwctl raft status {group}` and try again; if a majority of its voters is gone for good: "
            "`dwctl cluster recover plan`",
        )
    return await there(stub_of(context, leader), OPERATION_SECONDS)


async def leader_of(context: AdminContext, group: GroupId, *, search: bool) -> NodeId:
    """0: there is none that this node, or with `search` any node, knows of. Raises NotFound with `search`."""
    known = context.host.leader_node(group)
    if known or not search:
        return known
    (found,) = (await raft_status(context, frozenset({group}), local=False)).groups
    return NodeId(parse_hex_id(found.leader)) if found.leader else NodeId(0)


def node_named(context: AdminContext, wanted: str) -> NodeId:
    """By name or id. Raises NotFound."""
    for row in context.meta.view.topology().nodes:
        if wanted and wanted in {row.name, hex_id(row.node)}:
            return row.node
    raise NotFound("node.not_found", f"no node {wanted[:63]!r}", hint="`dwctl node list` shows them")
