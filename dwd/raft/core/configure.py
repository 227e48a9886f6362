"""Changing who is a member.

A configuration is in force as soon as it is appended. Any majority of the one before and any of the one after share a
member, since they differ in one voter at most or one of them is joint (`joint.py`). That holds only if the one before
is settled: a leader takes a change only when an entry of its own term is committed, no change is in flight and no joint
configuration is to be left.

Source: Ongaro's thesis, 4.1-4.4; the first condition was missing there: D. Ongaro, "bug in single-server membership
changes", raft-dev mailing list, 2015-07-10. Learners and catching up: thesis 4.2.1; a leader that is no member of what
it committed: thesis 4.2.2.
"""

from __future__ import annotations

from dwd.base.errors import Busy, Conflict, DwError, SafetyRefused
from dwd.base.ids import LogIndex, ReplicaId, Stamp, stamp_of
from dwd.raft.core import joint
from dwd.raft.core.changes import changed
from dwd.raft.core.configuration_codec import encode_configuration
from dwd.raft.core.configurations import halves_of
from dwd.raft.core.effects import Accepted
from dwd.raft.core.log_view import entry_bytes
from dwd.raft.core.progress import Progress
from dwd.raft.core.propose import refuse, take, why_not_now
from dwd.raft.core.quorum import holds_majority
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import (
    Configuration,
    ConfigurationChange,
    Entry,
    EntryKind,
    JointChange,
    ProposalId,
    Role,
)


def propose_configuration(
    state: State, proposal: ProposalId, change: ConfigurationChange | JointChange, *, unix_ms: int
) -> None:
    try:
        configuration = _judge(state, change)
    except DwError as error:
        refuse(state, [proposal], error)
        return
    entry = _append(state, configuration, max(stamp_of(unix_ms), state.log.last_stamp + 1))
    state.outbox.accepted.append(Accepted(proposal=proposal, index=entry.index, term=entry.term))


def leave_joint(state: State) -> None:
    """The joint configuration in force is committed: go on to the new one."""
    _append(state, joint.left(state.configuration), state.log.last_stamp + 1)


def _append(state: State, configuration: Configuration, stamp: int) -> Entry:
    log = state.log
    entry = Entry(
        index=LogIndex(log.last_index + 1), term=state.term, kind=EntryKind.CONFIGURATION, stamp=Stamp(stamp),
        payload=encode_configuration(configuration),
    )  # fmt: skip
    take(state, [entry], entry_bytes(entry))
    _follow_members(state)
    return entry


def _judge(state: State, change: ConfigurationChange | JointChange) -> Configuration:
    """The configuration to append for `change`. Raises the reason why there is none."""
    if state.role is not Role.LEADER:
        raise state.not_leader()
    if state.commit < state.term_start:
        raise Busy("raft.leader_new", "the leader has committed nothing of its own term yet", hint="try again")
    obstacle = why_not_now(state)
    if obstacle is not None:
        raise obstacle
    if state.configurations.index > state.commit or state.configuration.is_joint:
        raise Conflict("raft.change_in_flight", "another configuration change is in flight", hint="try again")
    changes = change.changes if isinstance(change, JointChange) else (change,)
    wanted = changed(
        state.configuration, changes, leader=state.replica, caught_up=lambda replica: is_caught_up(state, replica)
    )
    configuration = joint.between(state.configuration, wanted)
    _guard_quorum(state, configuration)
    return configuration


def _guard_quorum(state: State, configuration: Configuration) -> None:
    """Refuse a change after which those who answer would be no majority: it could never be committed."""
    halves = halves_of(configuration)
    if halves == state.configurations.halves:
        return
    for half in halves:
        if not holds_majority((half,), lambda replica: replica == state.replica or _is_alive(state, replica)):
            alive = sum(1 for replica in half if replica == state.replica or _is_alive(state, replica))
            raise SafetyRefused(
                "raft.quorum_at_risk",
                f"only {alive} of the {len(half)} voters after this change answer",
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
