"""Time passing. Source: Ongaro & Ousterhout 2014, 5.2; thesis 6.2 (a leader without a majority steps down)."""

from __future__ import annotations

from dwd.raft.core import read
from dwd.raft.core.elect import become_follower, campaign, may_campaign
from dwd.raft.core.quorum import majority
from dwd.raft.core.replicate import send_heartbeats
from dwd.raft.core.state import State
from dwd.raft.core.types import NO_REPLICA, Role


def tick(state: State) -> None:
    if state.role is Role.LEADER:
        _tick_leader(state)
    else:
        _tick_peer(state)


def _tick_leader(state: State) -> None:
    timers, options = state.timers, state.options
    timers.election += 1
    timers.heartbeat += 1
    read.tick_leader(state)
    if timers.election >= options.election_ticks_min:
        timers.election = 0
        if not _has_quorum(state):
            become_follower(state, state.term, NO_REPLICA)
            return
    if timers.heartbeat >= options.heartbeat_ticks:
        send_heartbeats(state)


def _has_quorum(state: State) -> bool:
    """Whether a majority answered since the last look (check-quorum)."""
    voters = state.configurations.voters
    active = sum(1 for voter in voters if voter == state.replica or state.progress[voter].recent_active)
    for progress in state.progress.values():
        progress.recent_active = False
    return active >= majority(len(voters))


def _tick_peer(state: State) -> None:
    timers = state.timers
    timers.election += 1
    timers.hurry = max(0, timers.hurry - 1)
    read.tick_peer(state)
    if state.doubt is not None:
        state.doubt.request_ticks -= 1
    if timers.election >= timers.patience and may_campaign(state):
        campaign(state)
