"""What one node knows of itself, and the cluster's status put together from every node's answer."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterable
from pathlib import Path

from dwd.admin.context import PEER_SECONDS, AdminContext
from dwd.base.errors import DwError
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, hex_id
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import DeviceState, Liveness, NodeRow
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.pb.admin.v1 import admin_pb2_grpc
from dwd.raft.core.types import MemberRole, Role
from dwd.raft.status import GroupStatus
from dwd.rpc.calls import call

PAGE_BYTES = resource.getpagesize()


async def node_status(context: AdminContext) -> pb.NodeStatusReply:
    """This node alone, from memory and its own groups."""
    row = context.meta.view.topology().node(context.node)
    reply = pb.NodeStatusReply()
    if row is not None:
        reply.node.CopyFrom(node_info(row))
    reply.node.id = hex_id(context.node)
    reply.node.state = "up"
    reply.node.version = context.version
    reply.node.memory_bytes = resident_bytes()
    reply.node.uptime_seconds = context.clock.monotonic() - context.started
    reply.node.loop_lag_seconds = context.loop_lag()
    reply.node.cpu_seconds = time.process_time()
    clock = context.host.clock()
    reply.node.clock_offset_seconds = clock.offset_seconds or 0.0
    reply.node.clock_off = clock.off
    disk = context.host.disk()
    reply.node.sync_seconds = disk.sync_seconds or 0.0
    reply.node.disk_slow = disk.slow
    reply.groups.extend(group_info(context.host.status(group)) for group in context.host.groups())
    reply.devices.extend(
        pb.DeviceInfo(
            id=hex_id(device.device),
            node=hex_id(context.node),
            path=device.path,
            weight=device.weight,
            state="failed" if device.failed else "active",
            used_bytes=device.used,
            free_bytes=device.free,
            total_bytes=device.total,
            fragments=device.fragments,
            reason=device.failed,
        )
        for device in await context.blocks.devices()
    )
    await _add_shards(context, reply)
    return reply


async def _add_shards(context: AdminContext, reply: pb.NodeStatusReply) -> None:
    """Counts of the shards led here; a shard that cannot answer now is left out."""
    for group in context.meta.shards():
        if not context.meta.leads(group):
            continue
        try:
            counts = await context.meta.counts(group, deadline=context.deadline(PEER_SECONDS))
        except DwError:
            continue
        reply.usage.objects += counts.objects
        reply.usage.bytes += counts.bytes
        reply.redundancy.gc_pending += counts.gc_waiting
    exposure = await context.blocks.exposure()
    reply.redundancy.blocks = exposure.blocks
    reply.redundancy.blocks_degraded = exposure.degraded
    reply.redundancy.blocks_at_risk = exposure.at_risk


async def cluster_status(context: AdminContext) -> pb.ClusterStatusReply:
    """Every node is asked at once; who does not answer in time is shown as unreachable."""
    topology = context.meta.view.topology()
    answers = await asyncio.gather(*(_ask(context, row.node) for row in topology.nodes))
    heard = {row.node: answer for row, answer in zip(topology.nodes, answers, strict=True) if answer is not None}
    reply = pb.ClusterStatusReply(
        cluster_id=context.cluster, answered_by=hex_id(context.node), recovery_epoch=context.recovery.epoch
    )
    if topology.cluster is not None:
        reply.cluster_name = topology.cluster.name
    if topology.layout is not None:
        reply.layout_epoch = topology.layout.epoch
    reply.usage.buckets = len(context.meta.view.buckets())
    _add_nodes(reply, topology, heard)
    _add_devices(reply, topology, heard)
    _add_groups(reply, (CONTROL_GROUP, *context.meta.shards()), heard.values())
    _add_quarantines(reply, heard)
    for answer in heard.values():
        reply.usage.objects += answer.usage.objects
        reply.usage.bytes += answer.usage.bytes
        reply.redundancy.blocks += answer.redundancy.blocks
        reply.redundancy.blocks_degraded += answer.redundancy.blocks_degraded
        reply.redundancy.blocks_at_risk += answer.redundancy.blocks_at_risk
        reply.redundancy.gc_pending += answer.redundancy.gc_pending
    _judge(reply)
    return reply


async def _ask(context: AdminContext, node: NodeId) -> pb.NodeStatusReply | None:
    if node == context.node:
        return await node_status(context)
    try:
        stub = admin_pb2_grpc.AdminStub(context.channels.to(node))
        return await call(stub.NodeStatus, pb.NodeStatusRequest(), seconds=PEER_SECONDS, mutation=False)
    except DwError:
        return None


def _add_nodes(reply: pb.ClusterStatusReply, topology: Topology, heard: dict[NodeId, pb.NodeStatusReply]) -> None:
    for row in topology.nodes:
        info = node_info(row)
        if row.node in heard:
            info.MergeFrom(heard[row.node].node)
        else:
            info.state = "down" if row.liveness is Liveness.DOWN else "unreachable"
        reply.nodes.append(info)


def _add_devices(reply: pb.ClusterStatusReply, topology: Topology, heard: dict[NodeId, pb.NodeStatusReply]) -> None:
    told = {device.id: device for answer in heard.values() for device in answer.devices}
    for row in topology.devices:
        info = pb.DeviceInfo(id=hex_id(row.device), node=hex_id(row.node), weight=row.weight, reason=row.reason)
        if hex_id(row.device) in told:
            info.MergeFrom(told[hex_id(row.device)])
        elif row.state is DeviceState.ACTIVE:
            info.state = "unreachable"
        if row.state is not DeviceState.ACTIVE:
            info.state = row.state.name.lower()
        reply.devices.append(info)


def _add_groups(reply: pb.ClusterStatusReply, groups: Iterable[GroupId], answers: Iterable[pb.NodeStatusReply]) -> None:
    """A group as its leader of the highest term sees it, or as anybody does when it has none."""
    views = [group for answer in answers for group in answer.groups]
    for wanted in groups:
        seen = [group for group in views if group.group == wanted]
        if not seen:
            reply.groups.append(pb.GroupInfo(group=wanted, kind=kind_of(wanted)))
            continue
        best = max(seen, key=lambda g: (any(m.state == "leader" for m in g.members), g.term, g.applied_index))
        info = pb.GroupInfo()
        info.CopyFrom(best)
        reply.groups.append(info)


def _add_quarantines(reply: pb.ClusterStatusReply, heard: dict[NodeId, pb.NodeStatusReply]) -> None:
    """What a replica's own node knows of it, and its leader does not; and what a leader cannot mend."""
    told = {(hex_id(node), group.group): group for node, answer in heard.items() for group in answer.groups}
    for group in reply.groups:
        group.quarantined = ""
        for member in group.members:
            own = told.get((member.node, group.group))
            if own is not None and own.quarantined:
                member.state = "quarantined"
                group.quarantined = own.quarantined
            if own is not None and own.alarm:
                group.alarm = own.alarm


def _judge(reply: pb.ClusterStatusReply) -> None:
    """Health in one word, and a sentence for each thing that is not as it should be."""
    reasons = [f"node {n.name or n.id} is {n.state}" for n in reply.nodes if n.state != "up"]
    reasons += [
        f"node {n.name or n.id}: its clock is {_offset(n.clock_offset_seconds)} that of the others; it leads no group"
        for n in reply.nodes
        if n.clock_off
    ]
    leaderless = [f"group {g.group} ({g.kind}) has no leader" for g in reply.groups if not g.leader]
    if not reply.layout_epoch:
        leaderless.append("no layout: no device has been added")
    reasons += leaderless
    reasons += [
        f"group {group.group}: the replica on node {member.node} is {member.state}"
        for group in reply.groups
        for member in group.members
        if member.state in {"missing", "failed"}
    ]
    reasons += [
        f"group {group.group}: the replica on node {member.node} is quarantined, being re-seeded: {group.quarantined}"
        for group in reply.groups
        for member in group.members
        if member.state == "quarantined"
    ]
    reasons += [f"group {group.group}: {group.alarm}" for group in reply.groups if group.alarm]
    reasons += [
        f"device {d.id} is {d.state}{': ' + d.reason if d.reason else ''}"
        for d in reply.devices
        if d.state not in {"active", "retired", "lost"}
    ]
    if reply.redundancy.blocks_degraded:
        reasons.append(f"{reply.redundancy.blocks_degraded} blocks are not fully redundant")
    reply.reasons.extend(reasons)
    reply.redundancy.fully_redundant = not reply.redundancy.blocks_degraded and not leaderless
    reply.health = "unavailable" if leaderless else "degraded" if reasons else "healthy"
    reply.reasons.extend(
        f"node {n.name or n.id} is {n.standing}" for n in reply.nodes if n.standing not in {"", "active"}
    )
    # A slow disk costs neither service nor redundancy: it is said, and the cluster is as healthy as without it.
    reply.reasons.extend(
        f"node {n.name or n.id}: its log disk is slow (p99 {n.sync_seconds * 1000:.0f} ms); it gives away what it leads"
        for n in reply.nodes
        if n.disk_slow
    )


def _offset(seconds: float) -> str:
    return f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'}"


def node_info(row: NodeRow) -> pb.NodeInfo:
    return pb.NodeInfo(
        id=hex_id(row.node),
        name=row.name,
        region=row.domain.region,
        zone=row.domain.zone,
        rack=row.domain.rack,
        grpc=row.addresses.grpc,
        s3=row.addresses.s3,
        admin=row.addresses.admin,
        standing=row.standing.name.lower(),
    )


def kind_of(group: int) -> str:
    return "control" if group == CONTROL_GROUP else "shard"


def group_info(status: GroupStatus) -> pb.GroupInfo:
    info = pb.GroupInfo(
        group=status.group,
        kind=kind_of(status.group),
        leader=hex_id(status.leader_node) if status.leader_node else "",
        term=status.term,
        commit_index=status.commit,
        applied_index=status.applied,
        last_index=status.last,
        log_bytes=status.log_bytes,
        quarantined=status.quarantined or "",
        alarm=status.alarm or "",
        hibernating=status.hibernating,
    )
    for member in status.members:
        leads = member.member.replica == status.leader
        here = member.member.replica == status.replica
        state = "leader" if leads and status.role is Role.LEADER else member.state or "unknown"
        info.members.append(
            pb.MemberInfo(
                node=hex_id(member.member.node),
                replica=hex_id(member.member.replica),
                role="voter" if member.member.role is MemberRole.VOTER else "learner",
                leader=leads,
                match_index=member.match,
                applied_index=status.applied if here else 0,
                last_contact_seconds=min(member.last_contact_seconds, 1e9),
                state="failed" if here and status.failed is not None else state,
            )
        )
    return info


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
