"""A voter answers. Source: Ongaro & Ousterhout 2014, 5.2; a later term in a refusal is handled before (`step`)."""

from __future__ import annotations

from dwd.raft.core.elect import tally
from dwd.raft.core.messages import VoteReply
from dwd.raft.core.state import State
from dwd.raft.core.types import Role


def receive_vote_reply(state: State, reply: VoteReply) -> None:
    """Only what answers the present attempt counts: granted pre-votes name the term to be stood for."""
    if reply.pre:
        expected = state.term + 1 if reply.granted else state.term
        if state.role is not Role.PRE_CANDIDATE or reply.term != expected:
            return
    elif state.role is not Role.CANDIDATE or reply.term != state.term:
        return
    known = state.votes.get(reply.source)
    if known is None or not known.granted:
        state.votes[reply.source] = reply
        tally(state)
