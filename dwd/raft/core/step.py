"""A message from a peer: whose term counts, then the rule for its kind.

Source: Ongaro & Ousterhout 2014, 5.1 and figure 2 (Rules for servers: a later term makes a follower; a stale one is
refused). Replies of strangers are dropped, so a removed replica's later term deposes nobody (thesis 4.2.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex
from dwd.raft.core.elect import become_follower
from dwd.raft.core.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadReply,
    ReadRequest,
    SnapshotOffer,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from dwd.raft.core.plausible import Refusal, is_plausible
from dwd.raft.core.read import receive_read_reply, receive_read_request
from dwd.raft.core.receive_append import receive_append
from dwd.raft.core.receive_append_reply import receive_append_reply
from dwd.raft.core.receive_heartbeat import receive_heartbeat
from dwd.raft.core.receive_heartbeat_reply import receive_heartbeat_reply
from dwd.raft.core.receive_timeout_now import receive_timeout_now
from dwd.raft.core.receive_vote_reply import receive_vote_reply
from dwd.raft.core.receive_vote_request import receive_vote_request
from dwd.raft.core.snapshot import receive_offer
from dwd.raft.core.state import State
from dwd.raft.core.types import NO_REPLICA, Role

_RULES: dict[type, Callable[[State, Any], None]] = {
    VoteRequest: receive_vote_request,
    VoteReply: receive_vote_reply,
    Append: receive_append,
    AppendReply: receive_append_reply,
    Heartbeat: receive_heartbeat,
    HeartbeatReply: receive_heartbeat_reply,
    ReadRequest: receive_read_request,
    ReadReply: receive_read_reply,
    SnapshotOffer: receive_offer,
    TimeoutNow: receive_timeout_now,
}

FromLeader = Append | Heartbeat | SnapshotOffer | TimeoutNow


def step(state: State, message: Message) -> None:
    refusal = _judge(state, message)
    if refusal is not None:
        state.outbox.drop(refusal, message.source)
        return
    _RULES[type(message)](state, message)


def _judge(state: State, message: Message) -> Refusal | None:
    """Why `message` is not looked at; else this replica is in its term afterwards, if it carries one."""
    if message.target != state.replica or message.source == state.replica:
        return Refusal.MISDIRECTED
    if not is_plausible(message, state.term):
        return Refusal.IMPLAUSIBLE
    if isinstance(message, VoteRequest):
        return None
    if message.term < state.term:
        if isinstance(message, FromLeader):
            _refuse_stale(state, message)
        return Refusal.STALE
    if isinstance(message, FromLeader):
        _follow(state, message)
        return None
    return _judge_reply(state, message)


def _judge_reply(state: State, message: Message) -> Refusal | None:
    """A later term of a member is entered; that of a stranger deposes nobody (thesis 4.2.3)."""
    if message.source not in state.configurations.members and not _is_answered(state, message):
        return Refusal.STRANGER
    if message.term > state.term and not _names_a_term(message):
        become_follower(state, message.term, NO_REPLICA)
    return None


def _follow(state: State, message: FromLeader) -> None:
    """Only a leader sends these: whoever is candidate in its term, or of an earlier one, follows it."""
    if message.term == state.term:
        if state.role is Role.FOLLOWER and state.leader == message.source:
            return
        if state.role is Role.LEADER or state.leader not in {NO_REPLICA, message.source}:
            raise InvariantViolation(
                "two leaders in one term", term=state.term, leader=state.leader, other=message.source
            )
    become_follower(state, message.term, message.source)


def _refuse_stale(state: State, message: FromLeader) -> None:
    """Let a leader that does not know it yet learn of the later term."""
    state.send(
        AppendReply(
            source=state.replica, target=message.source, term=state.term, accepted=False,
            match=LogIndex(0), hint_index=LogIndex(0), hint_term=state.log.base.term,
        )
    )  # fmt: skip


def _is_answered(state: State, message: Message) -> bool:
    """A read of a replica that is no member any more, or not yet known as one: it is told so."""
    return isinstance(message, ReadRequest) and message.term == state.term


def _names_a_term(message: Message) -> bool:
    """A granted pre-vote only names a term that is not there yet (thesis 9.6)."""
    return isinstance(message, VoteReply) and message.pre and message.granted
