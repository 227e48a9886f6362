"""What one configuration change makes of a configuration. Pure; whether now is the time for it is not judged here.

Source: Ongaro's thesis 4.1, 4.2.1 (learners catch up first).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import assert_never

from dwd.base.errors import AlreadyExists, InvalidArgument, NotFound, SafetyRefused
from dwd.base.ids import ReplicaId
from dwd.raft.core.configuration_codec import MEMBERS_MAX
from dwd.raft.core.types import NO_REPLICA, ChangeKind, Configuration, ConfigurationChange, Member, MemberRole

PRIORITY_MAX = 2**32 - 1


def changed(
    present: Configuration,
    changes: Iterable[ConfigurationChange],
    *,
    leader: ReplicaId,
    caught_up: Callable[[ReplicaId], bool],
) -> Configuration:
    """`present` after all of `changes`. Raises the reason why there is none: AlreadyExists, InvalidArgument, NotFound,
    SafetyRefused.
    """
    members = present.members
    for change in changes:
        members = tuple(_step(Configuration(members=members), change, leader, caught_up))
    if not any(m.role is MemberRole.VOTER and m.priority > 0 for m in members):
        raise SafetyRefused("raft.last_voter", "the group would have no voter left that can lead")
    if len(members) > MEMBERS_MAX:
        raise InvalidArgument("raft.members_full", f"a group has at most {MEMBERS_MAX} members")
    return Configuration(members=tuple(sorted(members, key=lambda m: m.replica)))


def _step(
    present: Configuration, change: ConfigurationChange, leader: ReplicaId, caught_up: Callable[[ReplicaId], bool]
) -> list[Member]:
    kind, member = change.kind, change.member
    match kind:
        case ChangeKind.ADD_LEARNER | ChangeKind.ADD_WITNESS:
            role = MemberRole.LEARNER if kind is ChangeKind.ADD_LEARNER else MemberRole.WITNESS
            return [*present.members, _newcomer(present, member, role)]
        case ChangeKind.PROMOTE:
            return _promoted(present, member.replica, caught_up)
        case ChangeKind.DEMOTE:
            return _demoted(present, member.replica)
        case ChangeKind.REMOVE:
            known = _known(present, member.replica)
            return [m for m in present.members if m is not known]
        case ChangeKind.REPLACE_LOST:
            return _replaced(present, member, leader)
        case ChangeKind.SET_PRIORITY:
            known = _known(present, member.replica)
            _check_priority(member)
            return _with(present, replace(known, priority=member.priority))
        case _:
            assert_never(kind)


def _newcomer(present: Configuration, member: Member, role: MemberRole) -> Member:
    if present.find(member.replica) is not None or present.on_node(member.node) is not None:
        raise AlreadyExists("raft.member_exists", "this node or replica is a member already")
    return _fresh(member, role)


def _fresh(member: Member, role: MemberRole) -> Member:
    if member.replica == NO_REPLICA:
        raise InvalidArgument("raft.replica_zero", "replica id 0 means none")
    _check_priority(member)
    return replace(member, role=role)


def _check_priority(member: Member) -> None:
    if not 0 <= member.priority <= PRIORITY_MAX:
        raise InvalidArgument("raft.priority", f"a priority lies between 0 and {PRIORITY_MAX}")


def _promoted(present: Configuration, replica: ReplicaId, caught_up: Callable[[ReplicaId], bool]) -> list[Member]:
    known = _known(present, replica)
    if known.role is not MemberRole.LEARNER:
        raise AlreadyExists("raft.voter_exists", "this replica votes already")
    if not caught_up(replica):
        raise SafetyRefused("raft.not_caught_up", "this learner is too far behind to vote", hint="wait for it")
    return _with(present, replace(known, role=MemberRole.VOTER))


def _demoted(present: Configuration, replica: ReplicaId) -> list[Member]:
    known = _known(present, replica)
    if known.role is MemberRole.LEARNER:
        raise AlreadyExists("raft.learner_exists", "this replica is a learner already")
    if known.role is MemberRole.WITNESS:
        raise InvalidArgument("raft.witness", "a witness holds no data to learn with", hint="remove it")
    return _with(present, replace(known, role=MemberRole.LEARNER))


def _replaced(present: Configuration, member: Member, leader: ReplicaId) -> list[Member]:
    """The newcomer starts as a learner; a witness, which has nothing to catch up with, is one again."""
    lost = present.on_node(member.node)
    if lost is None:
        raise NotFound("raft.no_member", "this node has no replica of the group")
    if present.find(member.replica) is not None:
        raise AlreadyExists("raft.member_exists", "this replica is a member already")
    if lost.replica == leader:
        raise InvalidArgument("raft.not_lost", "the replica to be replaced leads the group")
    role = MemberRole.WITNESS if lost.role is MemberRole.WITNESS else MemberRole.LEARNER
    return [*(m for m in present.members if m is not lost), _fresh(member, role)]


def _with(present: Configuration, member: Member) -> list[Member]:
    return [member if m.replica == member.replica else m for m in present.members]


def _known(configuration: Configuration, replica: ReplicaId) -> Member:
    member = configuration.find(replica)
    if member is None:
        raise NotFound("raft.no_member", f"replica {replica:x} is not a member")
    return member
