"""Handing leadership to a voter of one's choice.

The leader takes no proposals meanwhile, brings the target to the end of its log, and asks it to stand at once
(TimeoutNow); the target's vote requests say so, since nobody would otherwise vote while hearing from a leader. What
does not succeed within the shortest election timeout is given up, and proposals are taken again.

Source: Ongaro's thesis, 3.10; 4.2.3 (the flag that lifts loyalty).
Hazard: a target that was asked may stand long after the leader gave up: so leases end for this term (`lease.py`).
"""

from __future__ import annotations

from dwd.base.errors import Conflict, NotFound, SafetyRefused
from dwd.base.ids import ReplicaId
from dwd.raft.core import elect
from dwd.raft.core.messages import TimeoutNow
from dwd.raft.core.replicate import send_heartbeats
from dwd.raft.core.state import State, Transfer
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import NO_REPLICA, Member, MemberRole, Role

REST_TIMEOUTS = 10
"""Election timeouts without a handover on the leader's own initiative after one that came to nothing."""


def begin(state: State, target: ReplicaId) -> None:
    """Raises NotLeader, NotFound, Conflict, SafetyRefused. To itself: ends one that is under way."""
    if state.role is not Role.LEADER:
        raise state.not_leader()
    if target == state.replica:
        state.transfer = None
        return
    _judge(state, target)
    if state.transfer is None:
        state.transfer = Transfer(target=target)
    advance(state)


def _judge(state: State, target: ReplicaId) -> None:
    member = state.configuration.find(target)
    if member is None:
        raise NotFound("raft.no_member", f"replica {target:x} is not a member")
    if not may_lead(state, member):
        raise SafetyRefused("raft.not_electable", "only a voter with data and a priority above 0 can lead")
    progress = state.progress[target]
    if not progress.recent_active or progress.state is ProgressState.SNAPSHOT:
        raise SafetyRefused("raft.not_caught_up", "this voter does not answer or is far behind", hint="wait for it")
    if state.transfer is not None and state.transfer.target != target:
        raise Conflict("raft.transfer_in_flight", "leadership is being handed to another voter", hint="try again")


def may_lead(state: State, member: Member) -> bool:
    """Voters with data that stay voters, unless their priority is 0."""
    return (
        member.role is MemberRole.VOTER
        and member.priority > 0
        and member.replica in state.configurations.halves[0]
    )  # fmt: skip


def advance(state: State) -> None:
    """Ask the target to stand as soon as its log is as long as the leader's."""
    transfer = state.transfer
    if transfer is None or transfer.asked:
        return
    progress = state.progress.get(transfer.target)
    if progress is None or progress.match < state.log.last_index:
        return
    transfer.asked = True
    state.lease_barred = True
    _ask(state, transfer.target)


def _ask(state: State, target: ReplicaId) -> None:
    state.send(TimeoutNow(source=state.replica, target=target, term=state.term))


def tick(state: State) -> None:
    """Leader: give up what takes too long; ask again meanwhile, for messages get lost."""
    state.transfer_rest = max(0, state.transfer_rest - 1)
    transfer = state.transfer
    if transfer is None:
        return
    transfer.ticks += 1
    if transfer.ticks > state.options.election_ticks_min or transfer.target not in state.progress:
        state.transfer = None
        state.transfer_rest = REST_TIMEOUTS * state.options.election_ticks_min
    elif transfer.asked and transfer.ticks % state.options.heartbeat_ticks == 0:
        _ask(state, transfer.target)


def resign(state: State) -> None:
    """Lead no more, telling the others what is committed and the most suitable voter to stand at once."""
    send_heartbeats(state)
    heir = _heir(state)
    if heir is not None:
        state.lease_barred = True
        _ask(state, heir)
    elect.become_follower(state, state.term, NO_REPLICA)


def _heir(state: State) -> ReplicaId | None:
    """Whoever is furthest, then of the highest priority; none that lacks what is committed."""
    fit = [
        (progress.match, member.priority, member.replica)
        for member in state.configuration.members
        if may_lead(state, member)
        and (progress := state.progress.get(member.replica)) is not None
        and progress.recent_active
        and not progress.reluctant
        and progress.match >= state.commit
    ]
    return max(fit)[2] if fit else None
