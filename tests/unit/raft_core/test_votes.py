"""RequestVote (figure 2, 5.4.1), pre-vote (thesis 9.6), and what has to be durable before a vote is spoken of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Stamp, Term
from dwd.raft.core.effects import Effects
from dwd.raft.core.messages import Heartbeat, VoteReply, VoteRequest
from dwd.raft.core.node import Node
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.types import (
    EMPTY_SNAPSHOT,
    NO_REPLICA,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    MemberRole,
    Role,
)
from tests.raft_harness.seeded import SeededRng

THREE = Configuration(
    members=tuple(Member(node=NodeId(i), replica=ReplicaId(i), role=MemberRole.VOTER) for i in (1, 2, 3))
)


def entry(index: int, term: int) -> Entry:
    return Entry(index=LogIndex(index), term=Term(term), kind=EntryKind.COMMAND, stamp=Stamp(index), payload=b"")


def node(*, term: int = 2, vote: int = 0, log: tuple[int, ...] = (1, 2), doubt: bool = False) -> Node:
    """Replica 1 of three; `log` holds the entries' terms."""
    return Node(
        group=GroupId(1), replica=ReplicaId(1), options=NodeOptions(), rng=SeededRng(1),
        hard_state=HardState(term=Term(term), vote=ReplicaId(vote), commit=LogIndex(0)),
        snapshot=replace(EMPTY_SNAPSHOT, configuration=THREE),
        entries=[entry(place + 1, of) for place, of in enumerate(log)], applied=LogIndex(0),
        applied_configuration=THREE, tail_doubt=doubt,
    )  # fmt: skip


def request(term: int, *, last: int = 2, last_term: int = 2, source: int = 2, pre: bool = False) -> VoteRequest:
    return VoteRequest(
        source=ReplicaId(source), target=ReplicaId(1), term=Term(term), pre=pre,
        last_index=LogIndex(last), last_term=Term(last_term),
    )  # fmt: skip


def settle(of: Node) -> list[Effects]:
    """All effects there are, each made durable in turn."""
    taken = []
    while of.has_effects():
        taken.append(of.take_effects())
        of.persisted(taken[-1].write)
    return taken


def answer(of: Node) -> VoteReply:
    replies = [
        message
        for effects in settle(of)
        for message in (*effects.messages_now, *effects.messages_durable)
        if isinstance(message, VoteReply)
    ]
    assert len(replies) == 1
    return replies[0]


@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize(
    ("last", "last_term", "granted"),
    [(2, 2, True), (3, 2, True), (1, 3, True), (1, 2, False), (9, 1, False), (0, 0, False)],
)
def test_vote_follows_the_log_when_asked(last: int, last_term: int, granted: bool, pre: bool) -> None:
    voter = node()
    voter.step(request(3, last=last, last_term=last_term, pre=pre))
    assert answer(voter).granted is granted


def test_vote_is_refused_when_given_to_another_before_a_restart() -> None:
    voter = node(term=3, vote=3)
    voter.step(request(3, source=2))
    assert not answer(voter).granted


def test_vote_is_repeated_when_the_same_candidate_asks_again() -> None:
    voter = node(term=3, vote=2)
    voter.step(request(3, source=2))
    assert answer(voter).granted


def test_vote_leaves_after_its_second_write_when_granted() -> None:
    voter = node()
    voter.take_effects()
    voter.step(request(3))
    first = voter.take_effects()
    assert first.hard_state == HardState(term=Term(3), vote=ReplicaId(2), commit=LogIndex(0))
    assert not first.messages_now
    assert not first.messages_durable
    voter.persisted(first.write)
    second = voter.take_effects()
    assert second.hard_state == first.hard_state
    assert [m.granted for m in second.messages_durable if isinstance(m, VoteReply)] == [True]


def test_pre_vote_changes_nothing_when_granted() -> None:
    voter = node()
    voter.step(request(9, pre=True))
    assert answer(voter).term == 9
    assert voter.status().term == 2
    assert voter.status().vote == NO_REPLICA


def test_vote_is_ignored_when_a_leader_is_alive() -> None:
    voter = node()
    voter.step(
        Heartbeat(source=ReplicaId(3), target=ReplicaId(1), term=Term(2), commit=LogIndex(0), round=1)
    )  # fmt: skip
    settle(voter)
    voter.step(request(7))
    assert not [m for effects in settle(voter) for m in effects.messages_durable]
    assert voter.status().term == 2


def test_vote_is_marked_when_the_tail_is_in_doubt() -> None:
    voter = node(doubt=True)
    voter.step(request(3))
    reply = answer(voter)
    assert reply.granted
    assert reply.doubtful


def votes_for(candidate: Node, *, pre: bool, doubtful: tuple[bool, ...]) -> None:
    term = candidate.status().term + (1 if pre else 0)
    for source, doubt in zip((2, 3), doubtful, strict=False):
        candidate.step(
            VoteReply(
                source=ReplicaId(source), target=ReplicaId(1), term=Term(term), pre=pre, granted=True, doubtful=doubt
            )
        )  # fmt: skip
    settle(candidate)


@pytest.mark.parametrize(
    ("own_doubt", "doubtful", "role"),
    [
        (False, (False,), Role.LEADER),
        (False, (True,), Role.PRE_CANDIDATE),
        (False, (True, True), Role.LEADER),
        (True, (False,), Role.PRE_CANDIDATE),
        (True, (False, False), Role.LEADER),
        (True, (True, True), Role.LEADER),
    ],
)
def test_doubtful_votes_count_only_when_all_voters_vote(
    own_doubt: bool, doubtful: tuple[bool, ...], role: Role
) -> None:
    candidate = node(doubt=own_doubt)
    while candidate.status().role is not Role.PRE_CANDIDATE:
        candidate.tick()
    settle(candidate)
    votes_for(candidate, pre=True, doubtful=doubtful)
    if candidate.status().role is Role.CANDIDATE:
        votes_for(candidate, pre=False, doubtful=doubtful)
    assert candidate.status().role is role
