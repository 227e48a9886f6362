"""Reads without a round of messages, as long as no other leader can have been elected. An option, off by default.

A voter that answers a heartbeat promises to vote for nobody else within the shortest election timeout
(`HeartbeatReply.lease`). Once a majority has answered heartbeats sent at time t, nobody can win before t plus that
timeout, and until then what this leader has committed is all there is. Two ticks are taken off, since a follower counts
ticks and its first may come at once, and DRIFT_PERCENT for clocks that run at different speeds.

What would break a promise is ruled out while the option is on: a replica that has just started promises nothing and
votes for nobody until the timeout has passed, for it may have promised before; a broken stream does not end loyalty to
the leader, so a dead leader is replaced only after its timeout; and once this leader has asked anybody to stand
(TimeoutNow) there is no lease for the rest of its term. Promises of replicas without the option do not count, so a
mixed group merely falls back to rounds.

Source: Ongaro's thesis, 6.4.1.
Hazard: this trusts clocks. If a follower's clock runs more than DRIFT_PERCENT faster than the leader's, or the leader's
monotonic clock stands still while others' goes on (a virtual machine that is paused or moved, a suspended laptop), a
read may return what another leader has overwritten. Rounds (ReadIndex) need no clock; prefer them.
"""

from __future__ import annotations

from dwd.raft.core.quorum import jointly_agreed
from dwd.raft.core.state import State

DRIFT_PERCENT = 10
MARGIN_TICKS = 2
SENT_MAX = 64
"""Rounds of heartbeats whose time is remembered."""


def sending(state: State) -> None:
    """A round of heartbeats is about to be sent: number it, so that its answers tell when it was."""
    if state.clock is None or not state.options.lease_reads:
        return
    reads = state.leader_reads
    reads.round += 1
    reads.sent.append((reads.round, state.clock.monotonic()))
    if len(reads.sent) > SENT_MAX:
        reads.sent.popleft()


def holds(state: State) -> bool:
    """Whether the leader may answer a read from what it has committed, now."""
    if state.clock is None or not state.options.lease_reads or state.lease_barred or state.commit < state.term_start:
        return False
    sent = state.leader_reads.sent
    progress, own = state.progress, state.replica
    promised = jointly_agreed(
        state.configurations.halves,
        lambda voter: state.leader_reads.round if voter == own else progress[voter].promised_round,
    )
    while len(sent) > 1 and sent[1][0] <= promised:
        sent.popleft()
    if not sent or sent[0][0] > promised:
        return False
    return state.clock.monotonic() < sent[0][1] + _lease_seconds(state)


def _lease_seconds(state: State) -> float:
    options = state.options
    ticks = max(0, options.election_ticks_min - MARGIN_TICKS)
    return ticks * options.tick_ms / 1000 * (100 - DRIFT_PERCENT) / 100


def promises(state: State) -> bool:
    """Follower: whether its answers to heartbeats bind it."""
    return state.options.lease_reads and state.doubt is None
