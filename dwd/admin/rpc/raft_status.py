"""The state of the Raft groups: what one node tells of its replicas, and every group put together from all nodes.

A group is described by its leader of the highest term; where there is none, by the replica whose log reaches furthest.
What each member's own node says stands beside it, so that a leader's word and a replica's own can be compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from dwd.admin.context import PEER_SECONDS, AdminContext
from dwd.base.errors import DwError, NotFound
from dwd.base.ids import CONTROL_GROUP, GroupId, LogIndex, NodeId, hex_id
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import Liveness, NodeRow
from dwd.meta.core.membership import outstanding, pin_of, wanted
from dwd.pb.admin.v1 import consensus_pb2 as pb
from dwd.pb.admin.v1 import consensus_pb2_grpc
from dwd.raft.core.types import Member, MemberRole, Role
from dwd.raft.status import GroupStatus, MemberStatus, SnapshotProgress
from dwd.rpc.calls import call

CONTACT_SECONDS_MAX = 1e9
"""Stands for "never": infinity has no JSON."""
DOING_MAX = 4
"""Members named that are not what they should be."""


async def raft_status(context: AdminContext, groups: Collection[GroupId], *, local: bool) -> pb.RaftStatusReply:
    """Of the groups named, or of all. Raises NotFound for one that nobody knows."""
    if local:
        return here(context, groups)
    rows = context.meta.view.topology().nodes
    answers = await asyncio.gather(*(_ask(context, row.node, groups) for row in rows))
    heard = {row.node: answer for row, answer in zip(rows, answers, strict=True) if answer is not None}
    reply = pb.RaftStatusReply(answered_by=hex_id(context.node), recovery_epoch=context.recovery.epoch)
    reply.nodes.extend(_node(row, heard.get(row.node)) for row in rows)
    wanted = _wanted(context, groups, heard.values())
    replicas: dict[int, list[pb.RaftReplica]] = {group: [] for group in wanted}
    for answer in heard.values():
        for replica in answer.replicas:
            if replica.group in replicas:
                replicas[replica.group].append(replica)
    reply.groups.extend(_group(group, replicas[group]) for group in wanted)
    return reply


def here(context: AdminContext, groups: Collection[GroupId]) -> pb.RaftStatusReply:
    """This node's replicas."""
    found = [group for group in context.host.groups() if not groups or group in groups]
    reply = pb.RaftStatusReply(answered_by=hex_id(context.node), nodes=[_self(context)])
    topology = context.meta.view.topology_or_none()
    for group in found:
        status = context.host.status(group)
        made = replica_message(context.node, status, frozenset(context.host.missing(group)))
        if topology is not None and status.role is Role.LEADER:
            _add_aim(made, status, topology)
        reply.replicas.append(made)
    return reply


def _add_aim(made: pb.RaftReplica, status: GroupStatus, topology: Topology) -> None:
    """Who should be a member, and what is still to be done for it. A damaged pin is said, not raised."""
    try:
        made.membership = "pinned" if pin_of(topology, status.group) is not None else "auto"
        left = outstanding(wanted(topology, status.group, status.configuration), status.configuration)
    except DwError as error:
        made.doing = str(error)
        return
    names = {row.node: row.name for row in topology.nodes}
    members = {m.member.node: m for m in status.members}
    told = []
    for node, what in left[:DOING_MAX]:
        member = members.get(node)
        learns = member is not None and member.member.role is MemberRole.LEARNER and not member.caught_up
        behind = f", {max(0, status.last - member.match):,} entries behind" if member is not None and learns else ""
        told.append(f"{names.get(node) or hex_id(node)} {what}{behind}")
    made.doing = "; ".join(told) + (f"; and {len(left) - DOING_MAX} more" if len(left) > DOING_MAX else "")


def _wanted(
    context: AdminContext, groups: Collection[GroupId], heard: Iterable[pb.RaftStatusReply]
) -> tuple[GroupId, ...]:
    known = {CONTROL_GROUP, *context.meta.shards(), *(GroupId(r.group) for a in heard for r in a.replicas)}
    unknown = sorted(set(groups) - known)
    if unknown:
        raise NotFound("raft.no_group", f"there is no group {unknown[0]}", hint="`dwctl raft status` shows the groups")
    return tuple(sorted(groups or known))


async def _ask(context: AdminContext, node: NodeId, groups: Collection[GroupId]) -> pb.RaftStatusReply | None:
    if node == context.node:
        return here(context, groups)
    request = pb.RaftStatusRequest(groups=groups, local=True)
    try:
        stub = consensus_pb2_grpc.ConsensusStub(context.channels.to(node))
        return await call(stub.RaftStatus, request, seconds=PEER_SECONDS, mutation=False)
    except DwError:
        return None


def _self(context: AdminContext) -> pb.RaftNode:
    """How this node's clock and log disk are, which decide whether it leads."""
    clock, disk = context.host.clock(), context.host.disk()
    return pb.RaftNode(
        id=hex_id(context.node),
        clock_off=clock.off,
        clock_offset_seconds=clock.offset_seconds or 0.0,
        disk_slow=disk.slow,
        sync_seconds=disk.sync_seconds or 0.0,
    )


def _node(row: NodeRow, answer: pb.RaftStatusReply | None) -> pb.RaftNode:
    told = pb.RaftNode()
    if answer is not None and answer.nodes:  # a node of an earlier version tells nothing of itself
        told.CopyFrom(answer.nodes[0])
    told.id, told.name, told.state = hex_id(row.node), row.name, _node_state(row, answer is not None)
    return told


def _node_state(row: NodeRow, answered: bool) -> str:
    if answered:
        return "up"
    return "down" if row.liveness is Liveness.DOWN else "unreachable"


# -- one group -----------------------------------------------------------------------------------------------------


def _group(group: GroupId, replicas: list[pb.RaftReplica]) -> pb.RaftGroup:
    made = pb.RaftGroup(group=group, kind=kind_of(group))
    if not replicas:
        return made
    leading = [r for r in replicas if r.role == "leader"]
    voice = max(leading or replicas, key=lambda r: (r.term, r.last_index, r.commit_index))
    made.leader = voice.node if leading else ""
    made.term = max(r.term for r in replicas)
    made.commit_index, made.last_index = voice.commit_index, voice.last_index
    made.hibernating = voice.hibernating
    made.membership, made.doing = voice.membership, voice.doing
    made.version = voice.version or max(r.version for r in replicas)  # a witness that leads knows none
    own = {r.replica: r for r in replicas}
    for member in voice.members:
        told = made.members.add()
        told.CopyFrom(member)
        if member.replica in own:
            told.own.CopyFrom(own[member.replica])
            del told.own.members[:]
        _judge(told, led=bool(leading))
        made.joint = made.joint or member.outgoing
    return made


def _judge(member: pb.RaftMember, *, led: bool) -> None:
    """The worst that leader and node say of it, in one word."""
    if member.HasField("own"):
        if member.own.quarantined:
            member.state = "quarantined"
        elif member.own.failed:
            member.state = "failed"
        elif not led:
            member.state = member.own.role
    elif member.state != "missing":
        member.state = "unreachable"


# -- one replica ---------------------------------------------------------------------------------------------------


def replica_message(node: NodeId, status: GroupStatus, missing: frozenset[NodeId]) -> pb.RaftReplica:
    """`missing`: members whose node says that it has no such replica; known to a leader alone."""
    role = status.role.name.lower()
    made = pb.RaftReplica(
        group=status.group,
        node=hex_id(node),
        replica=hex_id(status.replica),
        role=role,
        leader=hex_id(status.leader_node) if status.leader_node else "",
        term=status.term,
        commit_index=status.commit,
        applied_index=status.applied,
        first_index=status.first,
        last_index=status.last,
        log_bytes=status.log_bytes,
        tail_doubt=status.tail_doubt,
        failed=str(status.failed) if status.failed is not None else "",
        quarantined=status.quarantined or "",
        alarm=status.alarm or "",
        hibernating=status.hibernating,
        version=status.version,
    )
    if status.state_hash is not None:
        made.state_hash, made.state_hash_index = status.state_hash.digest.hex(), status.state_hash.index
    if status.snapshot is not None:
        made.snapshot.CopyFrom(_transfer(status.snapshot))
    _add_members(made, status, missing)
    return made


def _add_members(made: pb.RaftReplica, status: GroupStatus, missing: frozenset[NodeId]) -> None:
    leads = status.role is Role.LEADER
    seen = {m.member.replica: m for m in status.members}
    for member in status.configuration.members:
        told = made.members.add()
        told.CopyFrom(member_message(member))
        told.outgoing = member.replica in status.configuration.outgoing
        found = seen.get(member.replica)
        if leads and found is not None:
            _tell_progress(told, found, status.last, own=member.replica == status.replica)
        if leads and member.node in missing:
            told.state = "missing"


def member_message(member: Member) -> pb.RaftMember:
    """Who it is; nothing of how it does."""
    return pb.RaftMember(
        node=hex_id(member.node),
        replica=hex_id(member.replica),
        role=role_name(member.role),
        priority=member.priority,
        state="unknown",
    )


def _tell_progress(told: pb.RaftMember, found: MemberStatus, last: LogIndex, *, own: bool) -> None:
    told.state = "leader" if own else found.state or "unknown"
    told.match_index = found.match
    told.lag_entries = max(0, last - found.match)
    told.caught_up = own or found.caught_up
    told.last_contact_seconds = min(found.last_contact_seconds, CONTACT_SECONDS_MAX)
    if found.sending is not None:
        told.snapshot.CopyFrom(_transfer(found.sending))


def _transfer(progress: SnapshotProgress) -> pb.SnapshotTransfer:
    return pb.SnapshotTransfer(
        source=hex_id(progress.source), bytes_done=progress.bytes_done, bytes_total=progress.bytes_total,
        bytes_reused=progress.bytes_reused,
    )  # fmt: skip


def role_name(role: MemberRole) -> str:
    return role.name.lower()


def kind_of(group: int) -> str:
    return "control" if group == CONTROL_GROUP else "shard"
