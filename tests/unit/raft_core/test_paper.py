"""What the Raft paper says, section by section: Ongaro & Ousterhout, "In Search of an Understandable Consensus
Algorithm", USENIX ATC 2014 (extended version). "thesis" is Ongaro's of 2014.
"""

from __future__ import annotations

import pytest

from dwd.base.errors import InvariantViolation
from dwd.raft.core.messages import Append, AppendReply, Heartbeat, VoteReply, VoteRequest
from dwd.raft.core.types import EntryKind, ReadId, Role
from tests.raft_harness.single import (
    Single,
    accepted,
    alive,
    append,
    entry,
    granted,
    heartbeat,
    members,
    vote_request,
)

# 5.1 Raft basics


def leader_in(term: int, *, voters: int = 3, log: tuple[int, ...] = ()) -> Single:
    single = Single(members(voters), term=term - 1, log=log)
    single.lead()
    return single


def candidate() -> Single:
    single = Single(members(3))
    single.campaign()
    single.settle()
    return single


@pytest.mark.parametrize("make", [lambda: Single(members(3)), candidate, lambda: leader_in(1)])
def test_a_server_becomes_follower_when_it_hears_of_a_later_term(make: object) -> None:
    """5.1: if a candidate or leader discovers that its term is out of date, it immediately reverts to follower."""
    single: Single = make()  # type: ignore[operator]
    single.step(append(7))
    assert (single.role, single.node.status().term, single.node.status().leader) == (Role.FOLLOWER, 7, 2)


def test_a_request_is_rejected_when_its_term_is_over() -> None:
    """5.1: if a server receives a request with a stale term number, it rejects the request."""
    single = Single(members(3), term=5)
    single.step(append(4, entries=(entry(1, 4),)))
    (reply,) = single.take(AppendReply)
    assert (reply.accepted, reply.term, single.node.status().last) == (False, 5, 0)


# 5.2 Leader election


def test_a_server_starts_as_follower_when_it_starts() -> None:
    """5.2: when servers start up, they begin as followers."""
    assert Single(members(3)).role is Role.FOLLOWER


def test_a_leader_sends_heartbeats_when_time_passes() -> None:
    """5.2: leaders send periodic heartbeats to all followers."""
    single = leader_in(1)
    single.sent.clear()
    single.tick(2)
    assert sorted(beat.target for beat in single.take(Heartbeat)) == [2, 3]


def test_a_follower_stays_follower_when_it_hears_from_a_leader() -> None:
    """5.2: a server remains in follower state as long as it receives valid RPCs from a leader."""
    single = Single(members(3))
    for _ in range(50):
        single.step(heartbeat(1))
        single.tick(5)
    assert single.role is Role.FOLLOWER


def test_a_candidate_votes_for_itself_and_asks_all_when_it_stands() -> None:
    """5.2: to begin an election, a follower increments its current term and transitions to candidate state. It then
    votes for itself and issues RequestVote RPCs in parallel to each of the other servers.
    """
    single = Single(members(5), term=3)
    single.campaign()
    asked = [request for request in single.take(VoteRequest) if not request.pre]
    assert {(request.target, request.term) for request in asked} == {(2, 4), (3, 4), (4, 4), (5, 4)}
    assert (single.node.status().term, single.node.status().vote) == (4, 1)


@pytest.mark.parametrize(
    ("voters", "votes", "won"),
    [(1, 0, True), (3, 0, False), (3, 1, True), (5, 1, False), (5, 2, True), (7, 2, False), (7, 3, True)],
)
def test_a_candidate_wins_when_a_majority_votes_for_it(voters: int, votes: int, won: bool) -> None:
    """5.2: a candidate wins an election if it receives votes from a majority of the servers for the same term."""
    single = Single(members(voters))
    if voters > 1:
        single.campaign()
        asked = [request for request in single.take(VoteRequest) if not request.pre]
        for request in asked[:votes]:
            single.step(granted(request))
    else:
        single.tick(5)
    assert (single.role is Role.LEADER) is won


def test_a_vote_counts_once_when_its_answer_is_duplicated() -> None:
    """5.2: each server will vote for at most one candidate in a given term."""
    single = Single(members(5))
    single.campaign()
    asked = [request for request in single.take(VoteRequest) if not request.pre]
    for _ in range(3):
        single.step(granted(asked[0]))
    assert single.role is Role.CANDIDATE


@pytest.mark.parametrize("first", [2, 3])
def test_a_server_votes_for_the_first_who_asks_when_two_do(first: int) -> None:
    """5.2: each server will vote for at most one candidate in a given term, on a first-come-first-served basis."""
    single = Single(members(3))
    other = 5 - first
    single.step(vote_request(1, source=first))
    single.step(vote_request(1, source=other))
    single.step(vote_request(1, source=first))
    answers = {(int(reply.target), reply.granted) for reply in single.take(VoteReply)}
    assert answers == {(first, True), (other, False)}


def test_a_candidate_follows_when_somebody_else_leads_its_term() -> None:
    """5.2: if the leader's term is at least as large as the candidate's current term, then the candidate recognizes
    the leader as legitimate and returns to follower state.
    """
    single = candidate()
    single.step(append(int(single.node.status().term)))
    assert (single.role, single.node.status().leader) == (Role.FOLLOWER, 2)


def test_a_candidate_goes_on_when_a_leader_of_an_earlier_term_speaks() -> None:
    """5.2: if the term in the RPC is smaller than the candidate's current term, it rejects the RPC."""
    single = Single(members(3), term=5)
    single.campaign()
    single.step(heartbeat(4))
    assert single.role is Role.CANDIDATE


def test_election_timeouts_differ_when_drawn_again() -> None:
    """5.2: Raft uses randomized election timeouts to ensure that split votes are rare."""
    seen = set()
    for seed in range(30):
        single = Single(members(3), seed=seed)
        ticks = 0
        while single.role is Role.FOLLOWER:
            single.tick()
            ticks += 1
        seen.add(ticks)
    assert len(seen) > 5
    assert min(seen) >= 10
    assert max(seen) <= 22


# 5.3 Log replication


def test_a_leader_appends_and_sends_when_a_command_is_proposed() -> None:
    """5.3: the leader appends the command to its log as a new entry, then issues AppendEntries in parallel."""
    single = leader_in(1)
    single.sent.clear()
    single.propose(b"a")
    sent = [a for a in single.take(Append) if a.entries]
    assert {(a.target, a.previous_index, a.previous_term, a.entries[0].payload) for a in sent} == {
        (2, 1, 1, b"a"), (3, 1, 1, b"a")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("voters", "acknowledged", "committed"),
    [(3, (), 1), (3, (2,), 2), (5, (2,), 1), (5, (2, 4), 2), (5, (2, 3, 4, 5), 2)],
)
def test_an_entry_is_committed_when_a_majority_has_it(
    voters: int, acknowledged: tuple[int, ...], committed: int
) -> None:
    """5.3: a log entry is committed once the leader that created the entry has replicated it on a majority."""
    single = leader_in(1, voters=voters)
    single.sent.clear()
    single.propose()
    for source in acknowledged:
        single.step(accepted(source, 1, 2))
    assert single.node.status().commit == committed


def test_earlier_entries_are_committed_when_a_later_one_is() -> None:
    """5.3: this also commits all preceding entries in the leader's log, including those of previous leaders."""
    single = leader_in(4, log=(1, 2, 3))
    assert single.node.status().commit == 4


def test_followers_hear_of_the_commit_when_more_is_sent() -> None:
    """5.3: the leader includes the highest index it knows to be committed in future AppendEntries RPCs."""
    single = leader_in(1)
    single.propose()
    single.acknowledge(2)
    assert max(a.commit for a in single.take(Append)) == 2


def test_a_follower_applies_in_order_when_it_learns_of_the_commit() -> None:
    """5.3: once a follower learns that a log entry is committed, it applies the entry in log order."""
    single = Single(members(3), term=1)
    single.step(append(1, entries=(entry(1, 1), entry(2, 1), entry(3, 1)), commit=2))
    assert [e.index for effects in single.effects for e in effects.committed] == [1, 2]


@pytest.mark.parametrize(("previous", "fits"), [((0, 0), True), ((2, 2), True), ((2, 1), False), ((3, 3), False)])
def test_an_append_is_refused_when_the_entry_before_it_differs(previous: tuple[int, int], fits: bool) -> None:
    """5.3: if the follower does not find an entry in its log with the same index and term, it refuses."""
    single = Single(members(3), term=2, log=(1, 2))
    single.step(append(3, previous))
    (reply,) = single.take(AppendReply)
    assert reply.accepted is fits


@pytest.mark.parametrize(
    ("previous", "entries", "after"),
    [
        ((2, 2), ((3, 3),), (1, 2, 3)),
        ((1, 1), ((2, 3), (3, 4)), (1, 3, 4)),
        ((0, 0), ((1, 1),), (1, 2)),
        ((0, 0), ((1, 3),), (3,)),
    ],
)
def test_a_log_becomes_the_leaders_when_it_conflicts(
    previous: tuple[int, int], entries: tuple[tuple[int, int], ...], after: tuple[int, ...]
) -> None:
    """5.3: conflicting entries in follower logs will be overwritten with entries from the leader's log; what does not
    conflict stays (figure 2, AppendEntries 3 and 4).
    """
    single = Single(members(3), term=2, log=(1, 2))
    single.step(append(4, previous, tuple(entry(index, term) for index, term in entries)))
    log = single.node._state.log
    assert tuple(log.term_of(index) for index in range(1, log.last_index + 1)) == after


def test_a_leader_finds_where_logs_agree_when_a_follower_refuses() -> None:
    """5.3: the leader decrements nextIndex and retries; the protocol can be optimized to skip a term at a time."""
    single = Single(members(3), term=6, log=(1, 1, 4, 4, 5, 5, 6))
    single.campaign()
    for request in [r for r in single.take(VoteRequest) if not r.pre]:
        single.step(granted(request))
    single.sent.clear()
    refusal = AppendReply(
        source=accepted(2, 0, 0).source, target=accepted(2, 0, 0).target, term=single.node.status().term,
        accepted=False, match=entry(0, 0).index, hint_index=entry(6, 0).index, hint_term=entry(0, 3).term,
    )  # fmt: skip
    single.step(refusal)
    (probe,) = [a for a in single.take(Append) if a.target == 2]
    assert (probe.previous_index, probe.previous_term) == (2, 1)


def test_a_leader_never_cuts_its_own_log_when_told_to() -> None:
    """5.3, leader append-only property: a leader never overwrites or deletes entries in its log."""
    single = leader_in(1)
    with pytest.raises(InvariantViolation):
        single.node._state.truncate_after(single.node.status().commit)


# 5.4 Safety


@pytest.mark.parametrize(
    ("last", "granted"),
    [((3, 2), True), ((2, 2), True), ((1, 3), True), ((1, 2), False), ((9, 1), False)],
)
def test_a_vote_is_given_when_the_candidates_log_is_up_to_date(last: tuple[int, int], granted: bool) -> None:
    """5.4.1: the voter denies its vote if its own log is more up-to-date than that of the candidate."""
    single = Single(members(3), term=2, log=(1, 2))
    single.step(vote_request(4, last=last))
    (reply,) = single.take(VoteReply)
    assert reply.granted is granted


def test_an_entry_of_an_earlier_term_is_not_committed_when_it_is_counted() -> None:
    """5.4.2 and figure 8: only log entries from the leader's current term are committed by counting replicas."""
    single = Single(members(5), term=3, log=(1, 2))
    single.campaign()
    for request in [r for r in single.take(VoteRequest) if not r.pre]:
        single.step(granted(request))
    for source in (2, 3, 4):
        single.step(accepted(source, 4, 2))
    assert single.node.status().commit == 0
    for source in (2, 3):
        single.step(accepted(source, 4, 3))
    assert single.node.status().commit == 3


def test_a_leader_begins_with_an_empty_entry_when_it_is_elected() -> None:
    """8: Raft handles this by having each leader commit a blank no-op entry at the start of its term."""
    single = leader_in(1)
    written = [e for effects in single.effects for e in effects.entries]
    assert [(e.index, e.term, e.kind) for e in written] == [(1, 1, EntryKind.NOOP)]


# 5.5 Follower and candidate crashes


def test_an_append_changes_nothing_when_it_comes_twice() -> None:
    """5.5: Raft RPCs are idempotent."""
    single = Single(members(3), term=1)
    message = append(1, entries=(entry(1, 1), entry(2, 1)), commit=1)
    single.step(message)
    before = single.node.status()
    single.step(message)
    assert single.node.status() == before


def test_a_shorter_append_cuts_nothing_when_it_comes_late() -> None:
    """Figure 2, AppendEntries 3: only a conflict deletes entries; a delayed RPC must not."""
    single = Single(members(3), term=1)
    single.step(append(1, entries=(entry(1, 1), entry(2, 1))))
    single.step(append(1, entries=(entry(1, 1),)))
    assert single.node.status().last == 2


# 6 Cluster membership changes


def test_a_vote_request_is_ignored_when_a_leader_is_alive() -> None:
    """6: if a server receives a RequestVote RPC within the minimum election timeout of hearing from a current leader,
    it does not update its term or grant its vote.
    """
    single = Single(members(3), term=1)
    single.step(heartbeat(1))
    single.step(vote_request(9, last=(99, 8), source=3))
    assert single.take(VoteReply) == []
    assert single.node.status().term == 1


# 8 Client interaction


def test_a_read_waits_for_a_round_when_it_arrives() -> None:
    """8: a leader must check whether it has been deposed before processing a read-only request."""
    single = leader_in(1)
    single.sent.clear()
    single.node.read_index(ReadId(7))
    beats = single.take(Heartbeat)
    assert not any(effects.reads for effects in single.effects)
    single.step(alive(2, 1, of_round=beats[0].round))
    assert [ready.index for effects in single.effects for ready in effects.reads] == [1]


def test_a_read_is_not_answered_when_nothing_of_the_term_is_committed() -> None:
    """8: a leader must have the latest information on which entries are committed."""
    single = Single(members(3))
    single.campaign()
    for request in [r for r in single.take(VoteRequest) if not r.pre]:
        single.step(granted(request))
    single.node.read_index(ReadId(7))
    single.settle()
    for source in (2, 3):
        single.step(alive(source, 1, of_round=9))
    assert not any(effects.reads for effects in single.effects)
