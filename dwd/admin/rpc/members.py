"""Operators' changes of who is a member: judged where the group is led, kept in control, carried out by the worker
(`dwd.meta.core.pins` says why so).
"""

from __future__ import annotations

import structlog

from dwd.admin.context import AdminContext
from dwd.admin.rpc.leaders import at_leader, node_named
from dwd.admin.rpc.raft_status import role_name
from dwd.base.errors import InvalidArgument
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, hex_id
from dwd.meta.core import pins
from dwd.meta.core.control.commands import SetSetting
from dwd.meta.core.control.rows import Liveness
from dwd.meta.core.membership import Desired, desired, pin_of
from dwd.meta.core.pins import Pin
from dwd.pb.admin.v1 import consensus_pb2 as pb
from dwd.raft.core.types import MemberRole
from dwd.raft.status import GroupStatus
from dwd.rpc.calls import call

REACHABLE_SECONDS = 3.0
_Verb = pb.ChangeMembersRequest.Verb
_log = structlog.get_logger("dwd.admin")


async def change_members(
    context: AdminContext, request: pb.ChangeMembersRequest, *, forwarded: bool
) -> pb.ChangeMembersReply:
    """Raises SafetyRefused, Conflict, AlreadyExists, NotFound, InvalidArgument, Unavailable."""
    return await at_leader(
        context,
        GroupId(request.group),
        forwarded=forwarded,
        here=lambda: _change(context, request),
        there=lambda stub, seconds: call(stub.ChangeMembers, request, seconds=seconds, mutation=True),
    )


async def _change(context: AdminContext, request: pb.ChangeMembersRequest) -> pb.ChangeMembersReply:
    """On the leader, who knows best which members answer."""
    group = GroupId(request.group)
    topology = context.meta.view.topology()
    status = context.host.status(group)
    present = pin_of(topology, group)
    wished, remarks = _wish(context, request, status, present)
    before, after = topology.setting(pins.setting_of(group)), pins.encode_pin(wished) if wished else ""
    changes = before != after
    if changes and not request.dry_run:
        command = SetSetting(name=pins.setting_of(group), value=after, expected=before)
        await context.meta.control(command, deadline=context.deadline())
        _log.info("members pinned" if wished else "members left to the cluster", group=group, wanted=after)
    reply = pb.ChangeMembersReply(
        group=group,
        membership="pinned" if wished else "auto",
        remarks=remarks,
        changed=changes and not request.dry_run,
    )
    everywhere = group == CONTROL_GROUP
    shown = wished or _pin_as(group, desired(topology.nodes, status.configuration, everywhere=everywhere))
    for node, role in sorted(shown.roles.items(), key=lambda item: (item[1], item[0])):
        reply.wanted.add(node=hex_id(node), role=role_name(role))
    return reply


def _pin_as(group: GroupId, members: Desired) -> Pin:
    """What the cluster would choose, in the form of a pin."""
    roles = {node: role for node in (*members.voting, *members.learners) if (role := members.role_of(node)) is not None}
    return Pin(group=group, roles=roles)


def _wish(
    context: AdminContext, request: pb.ChangeMembersRequest, status: GroupStatus, present: Pin | None
) -> tuple[Pin | None, tuple[str, ...]]:
    """The members wanted after this, None for whoever the cluster thinks best; and remarks."""
    if request.verb == _Verb.AUTO:
        return None, ()
    node = node_named(context, request.node)
    base = present or pins.as_it_is(status.group, status.configuration)
    wished = _changed(base, request, node)
    return wished, pins.judge(status.configuration, wished, reachable=_reachable(context, status), force=request.force)


def _changed(base: Pin, request: pb.ChangeMembersRequest, node: NodeId) -> Pin:
    match request.verb:
        case _Verb.ADD:
            role = pins.role_named(request.role) if request.role else MemberRole.LEARNER
            return pins.add(base, node, role, name=request.node)
        case _Verb.PROMOTE:
            return pins.promote(base, node, name=request.node)
        case _Verb.DEMOTE:
            return pins.demote(base, node, name=request.node)
        case _Verb.REMOVE:
            return pins.remove(base, node, name=request.node)
        case _:
            raise InvalidArgument("raft.no_verb", "say what is to be done with the member")


def _reachable(context: AdminContext, status: GroupStatus) -> frozenset[NodeId]:
    """Members heard of lately, and nodes that are up and no members yet."""
    members = {m.member.node: m for m in status.members}
    up = {row.node for row in context.meta.view.topology().nodes if row.liveness is Liveness.UP} - set(members)
    heard = {
        node
        for node, member in members.items()
        if node == context.node or member.last_contact_seconds <= REACHABLE_SECONDS
    }
    return frozenset(up | heard)
