"""Time passing. Source: Ongaro & Ousterhout 2014, 5.2; thesis 6.2 (a leader without a majority steps down)."""

from __future__ import annotations

from dwd.raft.core import prefer, read, transfer, witness
from dwd.raft.core.elect import become_follower, campaign, forget_leader, may_campaign
from dwd.raft.core.quorum import holds_majority
from dwd.raft.core.replicate import send_heartbeats
from dwd.raft.core.state import State
from dwd.raft.core.types import NO_REPLICA, Role

HINDERED_PATIENCE = 3
"""How many times longer a replica waits before it stands while it cannot write."""


PROOF_HEARTBEATS = 2
"""Within so many intervals of heartbeats a leader must hear of a majority after its process stood still."""


def tick(state: State, *, hindered: bool, missed: int) -> None:
    state.hindered = hindered
    if state.role is Role.LEADER:
        _note_pause(state, missed)
        _tick_leader(state, hindered=hindered)
    else:
        _tick_peer(state, hindered=hindered)


def _tick_leader(state: State, *, hindered: bool) -> None:
    timers, options = state.timers, state.options
    alone = len(state.configurations.voters) == 1
    if hindered and not alone and state.commit > min(state.log.stable, state.applied):
        # The others commit what this one cannot keep up with: one of them should lead.
        transfer.resign(state)
        return
    timers.election += 1
    timers.heartbeat += 1
    read.tick_leader(state)
    for progress in state.progress.values():
        progress.stall_due = True
    if timers.election >= options.election_ticks_min:
        timers.election = 0
        if not _has_quorum(state):
            become_follower(state, state.term, NO_REPLICA)
            return
    transfer.tick(state)
    if timers.heartbeat >= options.heartbeat_ticks:
        if witness.stands_in(state):
            witness.hand_over(state)
        else:
            prefer.hand_over(state)
        send_heartbeats(state)


def _note_pause(state: State, missed: int) -> None:
    """What a leader heard before its process stood still tells nothing any more: others may have given it up. Followers
    are told of no pause, or their own would make them stand.
    """
    timers, options = state.timers, state.options
    if missed + 1 < options.election_ticks_min:
        timers.election += missed
        return
    for progress in state.progress.values():
        progress.recent_active = False
    timers.heartbeat = options.heartbeat_ticks
    timers.election = max(0, options.election_ticks_min - 1 - PROOF_HEARTBEATS * options.heartbeat_ticks)


def _has_quorum(state: State) -> bool:
    """Whether a majority answered since the last look (check-quorum)."""
    progress, own = state.progress, state.replica
    active = holds_majority(
        state.configurations.halves, lambda voter: voter == own or progress[voter].recent_active
    )  # fmt: skip
    for peer in progress.values():
        peer.recent_active = False
    return active


def _tick_peer(state: State, *, hindered: bool) -> None:
    timers = state.timers
    timers.election += 1
    timers.hurry = max(0, timers.hurry - 1)
    timers.quiet = max(0, timers.quiet - 1)
    read.tick_peer(state)
    if state.doubt is not None:
        state.doubt.request_ticks -= 1
    patience = timers.patience * HINDERED_PATIENCE if hindered else timers.patience
    if timers.election >= patience:
        if may_campaign(state):
            campaign(state)
        elif state.leader != NO_REPLICA:
            forget_leader(state)
