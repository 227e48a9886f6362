"""A candidate asks for this replica's vote, or whether it would get it.

Source: Ongaro & Ousterhout 2014, figure 2 (RequestVote), 5.4.1; thesis 9.6 (pre-vote), 4.2.3 (who hears from a leader
ignores candidates, so removed and partitioned replicas cannot disturb). A replica answers candidates that are not in
its configuration: its configuration may be the older one (thesis 4.1). One whom the leader itself asked to stand is
heard in any case (thesis 4.2.3).
"""

from __future__ import annotations

from dwd.base.ids import Term
from dwd.raft.core import witness
from dwd.raft.core.elect import become_follower, reset_patience
from dwd.raft.core.messages import VoteReply, VoteRequest
from dwd.raft.core.state import State
from dwd.raft.core.types import NO_REPLICA, Role


def receive_vote_request(state: State, request: VoteRequest) -> None:
    if _is_sticky(state) and not request.transfer:
        if request.pre:
            _answer(state, request, state.term, granted=False)
        return
    if request.term < state.term:
        _answer(state, request, state.term, granted=False)
        return
    up_to_date = state.log.is_up_to_date(request.last_index, request.last_term)
    if not up_to_date:
        witness.refused(state, request.source)
    if request.pre:
        granted = request.term > state.term and up_to_date
        _answer(state, request, request.term if granted else state.term, granted=granted)
        return
    if request.term > state.term:
        become_follower(state, request.term, NO_REPLICA)
    free = state.vote in {NO_REPLICA, request.source} and state.leader == NO_REPLICA
    if not (free and up_to_date):
        _answer(state, request, state.term, granted=False)
        return
    if state.vote == NO_REPLICA:
        state.set_term(state.term, request.source)
        if state.doubt is not None:
            state.doubt.voted_term = state.term
    reset_patience(state)
    _answer(state, request, state.term, granted=True)


def _is_sticky(state: State) -> bool:
    """Whether a leader is alive as far as this replica knows: itself (check-quorum bounds that), or one heard of
    within the shortest election timeout.
    """
    if state.role is Role.LEADER or state.timers.quiet > 0:
        return True
    return state.leader != NO_REPLICA and state.timers.election < state.options.election_ticks_min


def _answer(state: State, request: VoteRequest, term: Term, *, granted: bool) -> None:
    reply = VoteReply(
        source=state.replica, target=request.source, term=term, pre=request.pre, granted=granted,
        doubtful=state.doubt is not None,
    )  # fmt: skip
    if granted and not request.pre:
        state.outbox.held.append(reply)
    else:
        state.send(reply)
