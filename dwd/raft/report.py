"""A group's status, put together from the core, the log and what the engine saw."""

from __future__ import annotations

from collections.abc import Callable

from dwd.base.errors import NotFound
from dwd.base.ids import GroupId, LogIndex, NodeId
from dwd.raft.core.status import NodeStatus
from dwd.raft.core.types import EMPTY_CONFIGURATION, NO_REPLICA, ZERO_INDEX, ZERO_TERM, Role
from dwd.raft.engine import Broken, Engine
from dwd.raft.leadership import NO_NODE
from dwd.raft.ports import LogStore
from dwd.raft.snapshots.copies import Copies
from dwd.raft.snapshots.transfers import Transfers
from dwd.raft.status import GroupStatus, MemberStatus


def describe(
    engine: Engine,
    group: GroupId,
    *,
    log: LogStore,
    transfers: Transfers,
    copies: Copies,
    last_contact: Callable[[NodeId], float],
) -> GroupStatus:
    """Raises NotFound. Role, leader and term are the published ones, by which proposals are taken: the core knows of
    an election won or lost before the loop comes round to say so.
    """
    replica = engine.replicas.get(group)
    if replica is None:
        broken = engine.broken.get(group)
        if broken is None:
            raise NotFound("raft.no_group", "this node has no replica of the group", group=group)
        return _describe_broken(group, broken)
    status, soft = replica.core.status(), replica.soft
    return GroupStatus(
        group=group,
        replica=replica.id,
        role=soft.role,
        leader=soft.leader,
        leader_node=replica.node_of(soft.leader),
        term=soft.term,
        commit=status.commit,
        applied=replica.applier.applied,
        last=status.last,
        last_term=status.last_term,
        witness=status.witness,
        first=status.first,
        log_bytes=log.bytes_held(group),
        configuration=status.configuration,
        members=_members(status, last_contact, copies),
        snapshot=transfers.progress(group),
        tail_doubt=status.tail_doubt,
        failed=None,
        quarantined=replica.quarantined,
        state_hash=replica.applier.machine.state_hash(),
        alarm=replica.alarm,
        version=replica.applier.machine.version(),
        hibernating=engine.hibernation.rests(group),
    )


def _members(status: NodeStatus, last_contact: Callable[[NodeId], float], copies: Copies) -> tuple[MemberStatus, ...]:
    peers = {peer.replica: peer for peer in status.peers}
    own_match = status.persisted if status.role is Role.LEADER else ZERO_INDEX
    found = []
    for member in status.configuration.members:
        peer = peers.get(member.replica)
        if member.replica == status.replica or peer is None:
            match, state = (own_match if member.replica == status.replica else ZERO_INDEX), ""
        else:
            match, state = peer.match, peer.state.value
        found.append(
            MemberStatus(
                member=member,
                match=LogIndex(match),
                state=state,
                caught_up=peer is not None and peer.caught_up,
                last_contact_seconds=last_contact(member.node),
                sending=copies.sending(status.group, member.replica),
            )
        )
    return tuple(found)


def _describe_broken(group: GroupId, broken: Broken) -> GroupStatus:
    last = broken.last
    return GroupStatus(
        group=group,
        replica=broken.replica,
        role=Role.FOLLOWER,
        leader=NO_REPLICA,
        leader_node=NO_NODE,
        term=last.term if last else ZERO_TERM,
        commit=last.commit if last else ZERO_INDEX,
        applied=last.applied if last else ZERO_INDEX,
        last=last.last if last else ZERO_INDEX,
        last_term=last.last_term if last else ZERO_TERM,
        first=last.first if last else ZERO_INDEX,
        log_bytes=0,
        configuration=last.configuration if last else EMPTY_CONFIGURATION,
        members=(),
        snapshot=None,
        tail_doubt=last is not None and last.tail_doubt,
        failed=broken.error,
    )
