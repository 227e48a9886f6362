"""Linearizable reads without writing: ReadIndex.

A leader answers with its commit index of the moment a round of heartbeats began, once a majority has answered that
round: so it still led after the read arrived, and nothing can have been committed elsewhere. A read joins only a round
begun after it arrived; the next round takes all who came meanwhile. Before an entry of the own term is committed the
leader does not know what is (thesis 6.4 step 1): reads wait for it. Followers and learners ask the leader.

Within a lease, if that option is on, the round is skipped (`lease.py`). A witness serves nothing.

Source: Ongaro's thesis, 6.4.
"""

from __future__ import annotations

from collections.abc import Iterable

from dwd.base.errors import Busy, DwError, Unavailable
from dwd.base.ids import LogIndex
from dwd.raft.core import doubt, lease
from dwd.raft.core.effects import ReadReady, ReadRefused
from dwd.raft.core.messages import ReadReply, ReadRequest
from dwd.raft.core.quorum import holds_majority
from dwd.raft.core.reads import WaitingRead
from dwd.raft.core.replicate import send_heartbeats
from dwd.raft.core.state import State
from dwd.raft.core.types import NO_REPLICA, ReadId, Role


def read_index(state: State, read: ReadId) -> None:
    """A local read."""
    if state.witness:
        _refuse(state, (read,), Unavailable("raft.witness", "a witness holds no data to read", hint="ask another"))
    elif state.role is Role.LEADER:
        _wait(state, WaitingRead(state.replica, read, LogIndex(0)))
    elif state.leader == NO_REPLICA:
        _refuse(state, (read,), state.not_leader())
    elif len(state.peer_reads.waiting) + len(state.peer_reads.joined) >= state.options.pending_reads_max:
        _refuse(state, (read,), _full())
    else:
        state.peer_reads.waiting.append(read)
        _request(state)


def _full() -> Busy:
    return Busy("raft.reads_full", "too many reads wait for their index", hint="try again")


def _refuse(state: State, reads: Iterable[ReadId], error: DwError) -> None:
    state.outbox.reads_refused.extend(ReadRefused(read=read, error=error) for read in reads)


# Leader.


def receive_read_request(state: State, request: ReadRequest) -> None:
    """A follower or learner asks; one in doubt about its tail asks to be vouched for (`doubt.py`)."""
    if state.role is not Role.LEADER or request.source not in state.progress:
        _reply(state, WaitingRead(request.source, request.read, LogIndex(0)), LogIndex(0), refused=True)
        return
    index_min = LogIndex(0)
    if state.witness and not request.doubtful:
        _reply(state, WaitingRead(request.source, request.read, index_min), index_min, refused=True)
        return
    if request.doubtful:
        index_min = state.log.last_index
        state.progress[request.source].forget()
        state.feed = True
        if request.source in state.sworn:
            _reply(state, WaitingRead(request.source, request.read, index_min), index_min, refused=True)
    _wait(state, WaitingRead(request.source, request.read, index_min))


def _reply(state: State, waiting: WaitingRead, index: LogIndex, *, refused: bool) -> None:
    state.send(
        ReadReply(
            source=state.replica, target=waiting.source, term=state.term, read=waiting.read, index=index,
            refused=refused,
        )
    )  # fmt: skip


def _wait(state: State, waiting: WaitingRead) -> None:
    reads = state.leader_reads
    if waiting.index_min == 0 and lease.holds(state):
        _answer(state, waiting, state.commit)
        return
    if len(reads.waiting) + len(reads.joined) >= state.options.pending_reads_max:
        if waiting.source == state.replica:
            _refuse(state, (waiting.read,), _full())
        else:
            _reply(state, waiting, LogIndex(0), refused=True)
        return
    reads.waiting.append(waiting)
    begin_round(state)


def begin_round(state: State) -> None:
    """Start a round for all that wait, unless one is under way or nothing of this term is committed."""
    reads = state.leader_reads
    if reads.joined or not reads.waiting or state.commit < state.term_start:
        return
    reads.joined, reads.waiting = reads.waiting, []
    reads.round += 1
    reads.joined_round = reads.round
    reads.round_index = state.commit
    reads.round_ticks = 0
    send_heartbeats(state)
    settle_round(state)


def settle_round(state: State) -> None:
    """Answer those whose round a majority has acknowledged, and begin the next."""
    reads = state.leader_reads
    progress, own = state.progress, state.replica
    if not reads.joined or not holds_majority(
        state.configurations.halves, lambda voter: voter == own or progress[voter].acked_round >= reads.joined_round
    ):
        return
    joined, reads.joined = reads.joined, []
    for waiting in joined:
        _answer(state, waiting, LogIndex(max(reads.round_index, waiting.index_min)))
    begin_round(state)


def _answer(state: State, waiting: WaitingRead, index: LogIndex) -> None:
    if waiting.source == state.replica:
        state.outbox.reads.append(ReadReady(read=waiting.read, index=index))
    else:
        _reply(state, waiting, index, refused=False)


def tick_leader(state: State) -> None:
    reads = state.leader_reads
    if reads.joined or reads.waiting:
        reads.round_ticks += 1
        if reads.round_ticks > state.options.election_ticks_min:
            refuse_leader_reads(state)


def refuse_leader_reads(state: State) -> None:
    """No majority answers, or this replica leads no more."""
    reads = state.leader_reads
    error = Unavailable("raft.read_unconfirmed", "no majority confirmed the leader", hint="try again")
    for waiting in (*reads.joined, *reads.waiting):
        if waiting.source == state.replica:
            _refuse(state, (waiting.read,), error)
        else:
            _reply(state, waiting, LogIndex(0), refused=True)
    reads.joined, reads.waiting, reads.round_ticks = [], [], 0


# Follower and learner.


def _request(state: State) -> None:
    """Send one request for all that wait, unless one is under way."""
    reads = state.peer_reads
    if reads.joined or not reads.waiting:
        return
    reads.joined, reads.waiting = reads.waiting, []
    reads.request, reads.request_ticks = reads.joined[0], 0
    _send_request(state, reads.joined[0])


def _send_request(state: State, read: ReadId) -> None:
    state.send(ReadRequest(source=state.replica, target=state.leader, term=state.term, read=read))


def receive_read_reply(state: State, reply: ReadReply) -> None:
    if reply.source != state.leader or doubt.receive_answer(state, reply):
        return
    reads = state.peer_reads
    if reads.request != reply.read:
        return
    joined, reads.joined, reads.request = reads.joined, [], None
    if reply.refused:
        _refuse(state, joined, Unavailable("raft.read_unconfirmed", "the leader could not confirm itself"))
    else:
        # The leader has committed up to there, and the log equals its own up to `verified`: no need to wait for news.
        state.commit_to(min(reply.index, state.verified))
        state.outbox.reads.extend(ReadReady(read=read, index=reply.index) for read in joined)
    _request(state)


def tick_peer(state: State) -> None:
    """Requests and answers get lost: ask again with the same id, and give up after an election timeout."""
    reads = state.peer_reads
    if reads.request is None:
        return
    reads.request_ticks += 1
    if reads.request_ticks > state.options.election_ticks_min:
        leader_changed(state)
    elif reads.request_ticks % state.options.heartbeat_ticks == 0:
        _send_request(state, reads.request)


def leader_changed(state: State) -> None:
    """Whoever was asked answers no more."""
    reads = state.peer_reads
    if reads.joined or reads.waiting:
        error = Unavailable("raft.leader_changed", "the leader changed or does not answer", hint="try again")
        _refuse(state, (*reads.joined, *reads.waiting), error)
        reads.joined, reads.waiting = [], []
    reads.request = None
