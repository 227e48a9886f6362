"""Changing who is a member, one replica at a time.

Any majority of the configuration before a change and any after it share a member, since they differ in one voter at
most; so a configuration may be in force as soon as it is appended. That holds only if the one before is settled: a
leader takes a change only when an entry of its own term is committed and no change is in flight.

Source: Ongaro's thesis, 4.1-4.4; the first condition was missing there: D. Ongaro, "bug in single-server membership
changes", raft-dev mailing list, 2015-07-10. Learners and catching up: thesis 4.2.1.
"""

from __future__ import annotations

from typing import assert_never

from dwd.base.errors import AlreadyExists, Busy, Conflict, DwError, InvalidArgument, NotFound, SafetyRefused
from dwd.base.ids import LogIndex, ReplicaId, Stamp, stamp_of
from dwd.raft.core import replicate
from dwd.raft.core.configuration_codec import MEMBERS_MAX, encode_configuration
from dwd.raft.core.effects import Accepted
from dwd.raft.core.log_view import entry_bytes
from dwd.raft.core.progress import Progress
from dwd.raft.core.propose import refuse, take
from dwd.raft.core.quorum import majority
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import (
    NO_REPLICA,
    ChangeKind,
    Configuration,
    ConfigurationChange,
    Entry,
    EntryKind,
    Member,
    MemberRole,
    ProposalId,
    Role,
)


def propose_configuration(state: State, proposal: ProposalId, change: ConfigurationChange, *, unix_ms: int) -> None:
    try:
        configuration = _judge(state, change)
    except DwError as error:
        refuse(state, [proposal], error)
        return
    log = state.log
    entry = Entry(
        index=LogIndex(log.last_index + 1), term=state.term, kind=EntryKind.CONFIGURATION,
        stamp=Stamp(max(stamp_of(unix_ms), log.last_stamp + 1)), payload=encode_configuration(configuration),
    )  # fmt: skip
    take(state, [entry], entry_bytes(entry))
    state.outbox.accepted.append(Accepted(proposal=proposal, index=entry.index, term=entry.term))
    _follow_members(state)


def _judge(state: State, change: ConfigurationChange) -> Configuration:
    """The configuration after `change`. Raises the reason why there is none."""
    if state.role is not Role.LEADER:
        raise state.not_leader()
    if state.commit < state.term_start:
        raise Busy("raft.leader_new", "the leader has committed nothing of its own term yet", hint="try again")
    if state.configurations.index > state.commit:
        raise Conflict("raft.change_in_flight", "another configuration change is in flight", hint="try again")
    members = list(_changed(state, change))
    if not any(m.role is MemberRole.VOTER for m in members):
        raise SafetyRefused("raft.last_voter", "the group would have no voter left")
    if len(members) > MEMBERS_MAX:
        raise InvalidArgument("raft.members_full", f"a group has at most {MEMBERS_MAX} members")
    configuration = Configuration(members=tuple(sorted(members, key=lambda m: m.replica)))
    _guard_quorum(state, configuration)
    return configuration


def _changed(state: State, change: ConfigurationChange) -> list[Member]:
    present = state.configuration
    kind, member = change.kind, change.member
    match kind:
        case ChangeKind.ADD_LEARNER:
            if present.find(member.replica) is not None or present.on_node(member.node) is not None:
                raise AlreadyExists("raft.member_exists", "this node or replica is a member already")
            return [*present.members, _learner(member)]
        case ChangeKind.PROMOTE:
            known = _known(present, member.replica)
            if known.role is MemberRole.VOTER:
                raise AlreadyExists("raft.voter_exists", "this replica votes already")
            if not is_caught_up(state, member.replica):
                raise SafetyRefused("raft.not_caught_up", "this learner is too far behind to vote", hint="wait for it")
            voter = Member(node=known.node, replica=known.replica, role=MemberRole.VOTER, priority=known.priority)
            return [voter if m is known else m for m in present.members]
        case ChangeKind.REMOVE:
            known = _known(present, member.replica)
            return [m for m in present.members if m is not known]
        case ChangeKind.REPLACE_LOST:
            return _replaced(state, member)
        case _:
            assert_never(kind)


def _replaced(state: State, member: Member) -> list[Member]:
    present = state.configuration
    lost = present.on_node(member.node)
    if lost is None:
        raise NotFound("raft.no_member", "this node has no replica of the group")
    if present.find(member.replica) is not None:
        raise AlreadyExists("raft.member_exists", "this replica is a member already")
    if lost.replica == state.replica:
        raise InvalidArgument("raft.not_lost", "the replica to be replaced leads the group")
    return [*(m for m in present.members if m is not lost), _learner(member)]


def _known(configuration: Configuration, replica: ReplicaId) -> Member:
    member = configuration.find(replica)
    if member is None:
        raise NotFound("raft.no_member", f"replica {replica:x} is not a member")
    return member


def _learner(member: Member) -> Member:
    if member.replica == NO_REPLICA:
        raise InvalidArgument("raft.replica_zero", "replica id 0 means none")
    return Member(node=member.node, replica=member.replica, role=MemberRole.LEARNER, priority=member.priority)


def _guard_quorum(state: State, configuration: Configuration) -> None:
    """Refuse a change after which those who answer would be no majority: it could never be committed."""
    voters = configuration.voters()
    if {m.replica for m in voters} == set(state.configurations.voters):
        return
    alive = sum(1 for m in voters if m.replica == state.replica or _is_alive(state, m.replica))
    if alive < majority(len(voters)):
        raise SafetyRefused(
            "raft.quorum_at_risk",
            f"only {alive} of the {len(voters)} voters after this change answer",
            hint="bring voters back first",
        )


def _is_alive(state: State, replica: ReplicaId) -> bool:
    progress = state.progress.get(replica)
    return progress is not None and progress.recent_active


def is_caught_up(state: State, replica: ReplicaId) -> bool:
    """Whether promoting it would not leave the group waiting for it (thesis 4.2.1)."""
    progress = state.progress.get(replica)
    return (
        progress is not None
        and progress.recent_active
        and progress.state is ProgressState.REPLICATE
        and progress.match + state.options.caught_up_entries >= state.commit
        and progress.match >= state.term_start
    )


def _follow_members(state: State) -> None:
    """Feed exactly the members of the configuration in force."""
    members = state.configurations.members
    state.progress = {replica: known for replica, known in state.progress.items() if replica in members}
    for replica in sorted(members - state.progress.keys() - {state.replica}):
        state.progress[replica] = Progress(LogIndex(state.log.last_index + 1))


def committed(state: State) -> bool:
    """The configuration in force is committed. Whether the leader is no member of it: then it tells what is committed
    and has to step down (thesis 4.2.2).
    """
    if state.replica in state.configurations.members:
        return False
    replicate.send_heartbeats(state)
    return True
