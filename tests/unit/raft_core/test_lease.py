"""Reads within a lease (thesis 6.4.1): when one holds, and what ends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dwd.base.ids import ReplicaId
from dwd.raft.core.messages import Heartbeat, HeartbeatReply, ReadReply, ReadRequest, VoteReply
from dwd.raft.core.types import ReadId
from tests.raft_harness.single import OPTIONS, Single, alive, heartbeat, members, vote_request
from tests.twins.manual_clock import ManualClock

LEASES = replace(OPTIONS, lease_reads=True)
LEASE_SECONDS = (LEASES.election_ticks_min - 2) * 0.1 * 0.9


def leader(clock: ManualClock, *, voters: int = 3, learners: int = 0) -> Single:
    """It has led for a while; its last round of heartbeats was answered by all voters, with a promise."""
    single = Single(members(voters, learners=learners), options=LEASES, clock=clock)
    single.tick(LEASES.election_ticks_min)
    single.lead()
    promise(single)
    return single


def promise(single: Single, *, lease: bool = True, sources: tuple[int, ...] = (2, 3)) -> None:
    single.sent.clear()
    single.tick(2)
    for beat in single.take(Heartbeat):
        if beat.target in sources:
            single.step(alive(int(beat.target), int(beat.term), of_round=beat.round, lease=lease))
    single.sent.clear()


def answered_at_once(single: Single, read: int) -> bool:
    single.effects.clear()
    single.node.read_index(ReadId(read))
    single.settle()
    return any(ready.read == read for effects in single.effects for ready in effects.reads)


def test_a_read_is_answered_at_once_when_the_lease_holds() -> None:
    clock = ManualClock()
    single = leader(clock)
    clock.advance(LEASE_SECONDS - 0.01)
    assert answered_at_once(single, 1)


def test_a_read_waits_for_a_round_when_the_lease_is_over() -> None:
    clock = ManualClock()
    single = leader(clock)
    clock.advance(LEASE_SECONDS + 0.01)
    assert not answered_at_once(single, 1)


def test_no_time_is_gained_when_answers_come_late() -> None:
    """The lease runs from when the heartbeats were sent."""
    clock = ManualClock()
    single = leader(clock)
    single.tick(2)
    beats = single.take(Heartbeat)
    clock.advance(LEASE_SECONDS + 0.01)
    for beat in beats:
        single.step(alive(int(beat.target), int(beat.term), of_round=beat.round, lease=True))
    assert not answered_at_once(single, 1)


@pytest.mark.parametrize(("lease", "sources"), [(False, (2, 3)), (True, ())])
def test_there_is_no_lease_when_no_majority_promised(lease: bool, sources: tuple[int, ...]) -> None:
    clock = ManualClock()
    single = leader(clock)
    clock.advance(LEASE_SECONDS + 0.01)
    promise(single, lease=lease, sources=sources)
    assert not answered_at_once(single, 1)


def test_a_learners_promise_counts_for_nothing_when_voters_are_silent() -> None:
    clock = ManualClock()
    single = leader(clock, learners=1)
    clock.advance(LEASE_SECONDS + 0.01)
    promise(single, sources=(4,))
    assert not answered_at_once(single, 1)


def test_there_is_no_lease_when_somebody_was_asked_to_stand() -> None:
    single = leader(ManualClock())
    assert answered_at_once(single, 1)
    single.node.transfer_leadership(ReplicaId(2))
    single.node.transfer_leadership(ReplicaId(1))
    promise(single)
    assert not answered_at_once(single, 2)


def test_rounds_are_held_when_the_option_is_off() -> None:
    single = Single(members(3), clock=ManualClock())
    single.lead()
    promise(single)
    assert not answered_at_once(single, 1)


def test_a_follower_is_answered_from_the_lease_too_when_it_asks() -> None:
    single = leader(ManualClock())
    single.step(ReadRequest(source=ReplicaId(2), target=ReplicaId(1), term=single.node.status().term, read=ReadId(9)))
    (reply,) = single.take(ReadReply)
    assert (reply.index, reply.refused) == (1, False)


def test_a_voter_promises_nothing_when_the_option_is_off() -> None:
    for options in (LEASES, OPTIONS):
        single = Single(members(3), options=options, clock=ManualClock())
        single.step(heartbeat(1))
        (reply,) = single.take(HeartbeatReply)
        assert reply.lease is options.lease_reads


def test_a_voter_votes_for_nobody_when_it_has_just_started() -> None:
    single = Single(members(3), term=1, options=LEASES, clock=ManualClock())
    single.step(vote_request(2, last=(1, 1)))
    assert single.take(VoteReply) == []
    single.tick(LEASES.election_ticks_min)
    single.step(vote_request(2, last=(1, 1)))
    assert [reply.granted for reply in single.take(VoteReply)] == [True]


def test_a_voter_stays_loyal_when_the_leaders_stream_breaks() -> None:
    single = Single(members(3), options=LEASES, clock=ManualClock())
    single.tick(LEASES.election_ticks_min)
    single.step(heartbeat(1))
    single.node.report_unreachable(ReplicaId(2))
    single.sent.clear()
    single.step(vote_request(2, last=(1, 1), source=3))
    assert single.take(VoteReply) == []
