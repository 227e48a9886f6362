"""Messages that are not looked at: what they are counted as, and that they change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex, ReplicaId, Term
from dwd.raft.core.messages import Message
from dwd.raft.core.outbox import DROPPED_MAX
from dwd.raft.core.plausible import ENTRIES_BYTES_MAX, ENTRIES_MAX, INDEX_MAX, TERM_JUMP_MAX, Refusal
from dwd.raft.core.types import Role
from tests.raft_harness.single import Single, accepted, alive, append, entry, heartbeat, members, vote_request


def dropped(single: Single) -> list[tuple[Refusal, int, int]]:
    single.settle()
    return [(d.refusal, int(d.source), d.count) for effects in single.effects for d in effects.dropped]


FAR = 2 + TERM_JUMP_MAX
NONSENSE = {
    "a term nobody can have reached": heartbeat(FAR + 1),
    "a vote for a term from nowhere": vote_request(FAR + 1),
    "an index past all indexes": append(2, (INDEX_MAX, 1)),
    "a match past all indexes": accepted(2, 2, INDEX_MAX),
    "a negative commit": heartbeat(2, commit=-1),
    "entries that do not follow on": append(2, (1, 1), (entry(5, 2),)),
    "a gap among entries": append(2, (0, 0), (entry(1, 1), entry(3, 2))),
    "terms that fall": append(2, (0, 0), (entry(1, 2), entry(2, 1))),
    "terms that fall in the middle": append(2, (0, 0), (entry(1, 1), entry(2, 2), entry(3, 1), entry(4, 2))),
    "an entry of a term that is yet to come": append(2, (0, 0), (entry(1, 3),)),
    "a log that is ahead of its candidate's term": vote_request(3, last=(7, 5)),
    "more entries than anybody sends": append(2, (0, 0), tuple(entry(n + 1, 2) for n in range(ENTRIES_MAX + 1))),
    "more bytes than anybody sends": append(2, (0, 0), (entry(1, 2, bytes(ENTRIES_BYTES_MAX + 1)),)),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nothing_changes_when_a_message_cannot_be_meant(name: str) -> None:
    single = Single(members(3), term=2, log=(1, 2))
    before = single.node.status()
    single.step(NONSENSE[name])
    assert dropped(single) == [(Refusal.IMPLAUSIBLE, 2, 1)]
    assert single.node.status() == before


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (replace(heartbeat(2), target=ReplicaId(9)), Refusal.MISDIRECTED),
        (replace(heartbeat(2), source=ReplicaId(1)), Refusal.MISDIRECTED),
        (heartbeat(1), Refusal.STALE),
        (alive(2, 1), Refusal.STALE),
        (alive(9, 2), Refusal.STRANGER),
        (accepted(9, 77, 1), Refusal.STRANGER),
    ],
)
def test_a_message_is_counted_when_it_is_dropped(message: Message, refusal: Refusal) -> None:
    single = Single(members(3), term=2, log=(1, 2))
    single.step(message)
    assert [found[0] for found in dropped(single)] == [refusal]
    assert single.node.status().term == 2


def test_what_is_remembered_stays_small_when_everybody_sends_nonsense() -> None:
    single = Single(members(3), term=2)
    for source in range(10, 10 + 3 * DROPPED_MAX):
        single.node.step(alive(source, 2))
    found = dropped(single)
    assert len(found) <= DROPPED_MAX + 1
    assert sum(count for _, _, count in found) == 3 * DROPPED_MAX


def test_the_group_stops_when_two_entries_claim_one_place_and_term() -> None:
    """Log matching (5.3): that cannot be, so this replica no longer knows what it holds."""
    single = Single(members(3), term=1)
    single.step(append(1, entries=(entry(1, 1, b"a"),)))
    with pytest.raises(InvariantViolation):
        single.node.step(append(1, entries=(entry(1, 1, b"b"), entry(2, 1))))


def test_the_group_stops_when_two_lead_one_term() -> None:
    single = Single(members(3))
    single.step(heartbeat(1, source=2))
    with pytest.raises(InvariantViolation):
        single.node.step(heartbeat(1, source=3))


def test_a_replica_refuses_to_run_when_it_is_a_member_as_something_else() -> None:
    """Made with data, listed as a witness: it would pass for a copy of the data, or the other way round."""
    single = Single(members(2, witnesses=1), term=1)
    assert single.role is Role.FOLLOWER
    other = Single(members(3), witness=True)
    with pytest.raises(InvariantViolation):
        other.node.tick()


def test_leading_indexes_stay_in_order_when_a_follower_claims_more_than_there_is() -> None:
    single = Single(members(3))
    single.lead()
    with pytest.raises(InvariantViolation):
        single.node.step(replace(accepted(2, 1, 0), match=LogIndex(99), term=Term(1)))
