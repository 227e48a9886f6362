"""A peer is alive, and still follows. Source: thesis 6.2 (check-quorum), 6.4 (rounds of reads)."""

from __future__ import annotations

from dwd.raft.core.messages import HeartbeatReply
from dwd.raft.core.progress import STALLED_ROUNDS_MAX
from dwd.raft.core.read import settle_round
from dwd.raft.core.snapshot import offer
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import Role


def receive_heartbeat_reply(state: State, reply: HeartbeatReply) -> None:
    """Beside its purpose it is the clock for what may be lost: probes, Appends in flight, snapshot offers."""
    progress = state.progress.get(reply.source)
    if state.role is not Role.LEADER or progress is None:
        return
    state.feed = True
    if reply.round == 0:
        # In doubt about its tail: an acknowledgement from before may have come after its request to forget it.
        progress.forget()
        return
    progress.recent_active = True
    progress.reluctant = reply.reluctant
    if reply.lease:
        progress.promised_round = max(progress.promised_round, reply.round)
    if progress.state is ProgressState.SNAPSHOT:
        offer(state, reply.source)
    elif progress.state is ProgressState.PROBE:
        progress.paused = False
    elif progress.inflight and progress.stall_due:
        progress.stall_due = False
        progress.stalled_rounds += 1
        if progress.stalled_rounds > STALLED_ROUNDS_MAX:
            progress.probe(progress.match + 1)
    if reply.round > progress.acked_round:
        progress.acked_round = reply.round
        settle_round(state)
