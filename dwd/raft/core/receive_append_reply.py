"""A follower tells how far it is. Source: Ongaro & Ousterhout 2014, figure 2 (Rules for leaders), 5.3."""

from __future__ import annotations

from dwd.base.errors import InvariantViolation
from dwd.raft.core import transfer, witness
from dwd.raft.core.commit import advance_commit
from dwd.raft.core.messages import AppendReply
from dwd.raft.core.progress import Progress
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import Role


def receive_append_reply(state: State, reply: AppendReply) -> None:
    progress = state.progress.get(reply.source)
    if state.role is not Role.LEADER or progress is None:
        return
    progress.recent_active = progress.recent_active or reply.accepted
    state.feed = True
    if not reply.accepted:
        _refused(state, progress, reply)
        return
    if reply.match > state.log.last_index:
        raise InvariantViolation("a follower has more of this term than its leader", match=reply.match)
    news = progress.acknowledged(reply.match)
    in_log = progress.match >= state.log.base.index
    if progress.state is ProgressState.PROBE or (progress.state is ProgressState.SNAPSHOT and in_log):
        progress.replicate()
    if not news:
        return
    if progress.match > state.commit:
        advance_commit(state)
    if state.role is Role.LEADER and witness.stands_in(state):
        witness.hand_over(state)
    transfer.advance(state)


def _refused(state: State, progress: Progress, reply: AppendReply) -> None:
    """Probe where both logs can agree. A replica in doubt about its tail refuses too and says how far it is: it is
    fed on from there, and asked again only at the next heartbeat once there is nothing new for it.
    """
    if progress.state is ProgressState.SNAPSHOT and reply.hint_index < state.log.base.index:
        return
    index, _ = state.log.last_at_or_below(reply.hint_index, reply.hint_term)
    before = progress.next if progress.state is ProgressState.PROBE else 0
    progress.probe(index + 1)
    progress.paused = progress.next == before
