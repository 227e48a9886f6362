"""What counts before it is durable: nothing. Stamps, bounds, and restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dwd.base.errors import InvariantViolation
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Stamp, Term, stamp_of
from dwd.raft.core.messages import Append, Heartbeat
from dwd.raft.core.node import Node
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.types import (
    EMPTY_HARD_STATE,
    EMPTY_SNAPSHOT,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    MemberRole,
    ProposalId,
    Role,
    WriteId,
)
from tests.raft_harness.seeded import SeededRng


def members(count: int) -> Configuration:
    return Configuration(
        members=tuple(Member(node=NodeId(i), replica=ReplicaId(i), role=MemberRole.VOTER) for i in range(1, count + 1))
    )


def entry(index: int, term: int, payload: bytes = b"") -> Entry:
    return Entry(
        index=LogIndex(index), term=Term(term), kind=EntryKind.COMMAND, stamp=Stamp(index), payload=payload
    )  # fmt: skip


def node(count: int = 3, *, hard_state: HardState = EMPTY_HARD_STATE, entries: tuple[Entry, ...] = ()) -> Node:
    return Node(
        group=GroupId(1), replica=ReplicaId(1), options=NodeOptions(), rng=SeededRng(1), hard_state=hard_state,
        snapshot=replace(EMPTY_SNAPSHOT, configuration=members(count)), entries=entries, applied=LogIndex(0),
        applied_configuration=members(count), tail_doubt=False,
    )  # fmt: skip


def append(term: int, after: int, after_term: int, *entries: Entry, commit: int = 0, source: int = 2) -> Append:
    return Append(
        source=ReplicaId(source), target=ReplicaId(1), term=Term(term), previous_index=LogIndex(after),
        previous_term=Term(after_term), entries=entries, commit=LogIndex(commit),
    )  # fmt: skip


def single_leader() -> Node:
    leader = node(1)
    leader.tick()
    for _ in range(4):
        leader.persisted(leader.take_effects().write)
    assert leader.status().role is Role.LEADER
    return leader


def test_entries_are_not_applied_when_an_older_write_of_the_same_index_is_durable() -> None:
    follower = node()
    follower.step(append(1, 0, 0, entry(1, 1), entry(2, 1)))
    first = follower.take_effects()
    follower.step(append(2, 0, 0, entry(1, 2), commit=1, source=3))
    second = follower.take_effects()
    follower.persisted(first.write)
    assert follower.take_effects().committed == ()
    assert follower.status().persisted == 0
    follower.persisted(second.write)
    assert follower.take_effects().committed == (entry(1, 2),)


def test_acknowledgement_waits_when_entries_were_taken_before() -> None:
    follower = node()
    follower.step(append(1, 0, 0, entry(1, 1)))
    assert not follower.take_effects().messages_now
    follower.step(append(1, 0, 0, entry(1, 1)))
    effects = follower.take_effects()
    assert not effects.messages_now
    assert len(effects.messages_durable) == 1


def test_nothing_leaves_when_the_term_is_not_durable() -> None:
    follower = node()
    follower.step(Heartbeat(source=ReplicaId(2), target=ReplicaId(1), term=Term(5), commit=LogIndex(0), round=1))
    effects = follower.take_effects()
    assert effects.hard_state == HardState(term=Term(5), vote=ReplicaId(0), commit=LogIndex(0))
    assert not effects.messages_now
    assert len(effects.messages_durable) == 1


def test_two_leaders_of_one_term_are_a_violation_when_seen() -> None:
    follower = node()
    follower.step(append(1, 0, 0, source=2))
    with pytest.raises(InvariantViolation):
        follower.step(append(1, 0, 0, source=3))


def test_replacing_a_committed_entry_is_a_violation_when_tried() -> None:
    follower = node()
    follower.step(append(1, 0, 0, entry(1, 1), entry(2, 1), commit=1))
    follower.step(append(2, 0, 0, entry(1, 2), source=3, commit=0))
    assert follower.status().role is Role.FOLLOWER, "an append from before the commit index is answered, not taken"
    with pytest.raises(InvariantViolation):
        follower.step(Heartbeat(source=ReplicaId(3), target=ReplicaId(1), term=Term(2), commit=LogIndex(9), round=1))


def test_a_durable_report_of_the_future_is_a_violation_when_made() -> None:
    with pytest.raises(InvariantViolation):
        node().persisted(WriteId(1))


def test_stamps_rise_when_the_clock_stands_or_goes_back() -> None:
    leader = single_leader()
    leader.propose([(ProposalId(1), b"a"), (ProposalId(2), b"b")], unix_ms=1000)
    leader.propose([(ProposalId(3), b"c")], unix_ms=10)
    stamps = [e.stamp for e in leader.take_effects().entries]
    assert stamps == [stamp_of(1000), stamp_of(1000) + 1, stamp_of(1000) + 2]


def test_proposals_are_refused_as_busy_when_too_much_is_not_committed() -> None:
    leader = single_leader()
    limit = NodeOptions().uncommitted_bytes_max
    leader.propose([(ProposalId(1), b"x" * limit), (ProposalId(2), b"y")], unix_ms=1)
    effects = leader.take_effects()
    assert [a.proposal for a in effects.accepted] == [1], "a large one is taken when nothing else waits"
    assert [(r.proposal, r.error.code) for r in effects.refused] == [(2, "raft.uncommitted_full")]
    leader.persisted(effects.write)
    assert leader.status().uncommitted_bytes == 0


def test_applying_is_not_flooded_when_it_lags() -> None:
    leader = single_leader()
    limit = NodeOptions().apply_bytes_max
    leader.propose([(ProposalId(1), b"x" * limit), (ProposalId(2), b"y")], unix_ms=1)
    leader.applied(leader.status().commit)
    leader.persisted(leader.take_effects().write)
    first = leader.take_effects().committed
    assert len(first) == 1
    assert not leader.take_effects().committed
    leader.applied(first[-1].index)
    assert len(leader.take_effects().committed) == 1


def test_a_restart_is_refused_when_the_state_machine_is_outside_its_log() -> None:
    with pytest.raises(InvariantViolation):
        Node(
            group=GroupId(1), replica=ReplicaId(1), options=NodeOptions(), rng=SeededRng(1),
            hard_state=EMPTY_HARD_STATE, snapshot=EMPTY_SNAPSHOT, entries=(), applied=LogIndex(1),
            applied_configuration=members(1), tail_doubt=False,
        )  # fmt: skip


def test_a_restart_keeps_term_vote_and_log_when_they_are_durable() -> None:
    hard_state = HardState(term=Term(3), vote=ReplicaId(2), commit=LogIndex(1))
    status = node(hard_state=hard_state, entries=(entry(1, 1), entry(2, 3))).status()
    assert (status.term, status.vote, status.commit, status.last) == (3, 2, 1, 2)
