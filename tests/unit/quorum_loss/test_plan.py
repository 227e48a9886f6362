"""What can be saved, decided from what survivors say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from dwd.base.errors import Corrupt
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term
from dwd.raft.quorum_loss.plan import (
    Installation,
    NodeReport,
    Order,
    RecoveryPlan,
    ReplicaReport,
    Seat,
    decode_order,
    decode_report,
    encode_order,
    encode_report,
    make_plan,
    next_epoch,
)

GROUP = GroupId(1)


def seats(voters: Iterable[int], learners: Iterable[int] = ()) -> tuple[Seat, ...]:
    made = [Seat(node=NodeId(n), replica=ReplicaId(100 + n), votes=True) for n in voters]
    return (*made, *(Seat(node=NodeId(n), replica=ReplicaId(100 + n), votes=False) for n in learners))


def report(number: int, last: tuple[int, int] = (2, 10), **facts: Any) -> NodeReport:
    """Node `number` with one replica of GROUP whose log ends at (term, index)."""
    epoch = facts.pop("epoch", 0)
    known: dict[str, Any] = {
        "commit": 8, "leads": False, "doubtful": False, "unfit": "", "members": seats((1, 2, 3)), "outgoing": (),
        "term": Term(last[0]), **facts,
    }  # fmt: skip
    replica = ReplicaReport(
        group=GROUP, replica=ReplicaId(100 + number), last_term=Term(last[0]), last_index=LogIndex(last[1]), **known
    )
    return NodeReport(node=NodeId(number), epoch=epoch, replicas=(replica,))


def plan(*reports: NodeReport, known: Iterable[int] = (1, 2, 3), groups: Iterable[int] = (1,)) -> RecoveryPlan:
    return make_plan(reports, map(NodeId, known), map(GroupId, groups))


def test_group_is_alive_when_a_majority_answers_or_a_leader_leads() -> None:
    assert plan(report(1), report(2)).alive == (GROUP,)
    assert plan(report(1, leads=True)).alive == (GROUP,)
    assert plan(report(1)).alive == ()
    five = {"members": seats((1, 2, 3, 4, 5))}
    assert plan(report(1, **five), report(2, **five)).alive == ()
    assert plan(report(1, **five), report(2, **five), report(5, **five)).alive == (GROUP,)


def test_newest_configuration_decides_who_votes() -> None:
    stale = report(4, (1, 3), members=seats((4,)))
    assert plan(report(1), stale).alive == (), "a learner that lags knows only that it once stood alone"
    assert plan(report(1, members=seats((1,), (4,))), stale).alive == (GROUP,)


def test_both_majorities_are_needed_while_a_group_is_between_two_configurations() -> None:
    joint = {"members": seats((1, 4, 5)), "outgoing": (101, 102, 103)}
    assert plan(report(1, **joint), report(4, **joint)).alive == ()
    assert plan(report(1, **joint), report(4, **joint), report(2, **joint)).alive == (GROUP,)


def test_voters_in_doubt_elect_only_when_all_of_them_are_there() -> None:
    assert plan(report(1, doubtful=True), report(2)).alive == ()
    assert plan(report(1, doubtful=True), report(2, doubtful=True), report(3)).alive == (GROUP,)


def test_broken_replica_votes_for_nobody_and_a_quarantined_one_does() -> None:
    assert plan(report(1), report(2, unfit="broken: holes")).alive == ()
    assert plan(report(1), report(2, unfit="quarantined: differs")).alive == (GROUP,)


def test_most_up_to_date_log_is_chosen() -> None:
    members = {"members": seats((1, 2, 3, 4, 5))}
    (found,) = plan(report(1, (2, 90), **members), report(2, (3, 10), **members)).groups
    assert (found.chosen, found.kept) == (2, 10), "a later term wins over a longer log"
    (found,) = plan(report(1, (3, 11), **members), report(2, (3, 10), **members)).groups
    assert (found.chosen, found.kept) == (1, 11)
    (found,) = plan(report(1, (3, 10), doubtful=True, **members), report(2, (3, 10), **members)).groups
    assert found.chosen == 2, "of equal logs the one that is sure of itself"
    (found,) = plan(report(1, (3, 99), unfit="a witness, holds no data", **members), report(2, **members)).groups
    assert found.chosen == 2


def test_learner_carries_the_group_on_when_it_is_all_there_is() -> None:
    (found,) = plan(report(4, members=seats((1, 2, 3), (4,)))).groups
    assert (found.chosen, [seat.node for seat in found.voters]) == (4, [1, 2, 3])


def test_losses_are_possible_unless_too_few_voters_are_gone() -> None:
    (found,) = plan(report(1)).groups
    assert found.losses_possible
    (found,) = plan(report(1, doubtful=True), report(2)).groups
    assert found.losses_possible, "the one in doubt may have lost what it and the one that is gone had committed"
    members = {"members": seats((1, 2, 3, 4))}
    (found,) = plan(report(1, **members), report(2, **members), known=(1, 2, 3, 4)).groups
    assert not found.losses_possible, "two of four are no majority: what they committed, a survivor has"


def test_losses_are_possible_when_those_gone_were_a_majority_of_half_of_a_joint_configuration() -> None:
    joint = {"members": seats((1, 2, 3), (4,)), "outgoing": (101, 102, 104)}
    (found,) = plan(report(3, **joint), report(4, **joint), known=(1, 2, 3, 4)).groups
    assert found.losses_possible, "1 and 2 alone were a majority of both halves"


def test_highest_commit_that_any_survivor_knows_is_named() -> None:
    members = {"members": seats((1, 2, 3, 4, 5))}
    (found,) = plan(report(1, (2, 10), commit=5, **members), report(2, (2, 9), commit=9, **members)).groups
    assert (found.committed, found.kept) == (9, 10)


def test_group_that_nobody_holds_is_named_and_nobody_chosen() -> None:
    (found,) = plan(report(1, leads=True), groups=(1, 7)).groups
    assert (found.group, found.chosen, found.survivors) == (7, 0, ())


def test_nodes_that_do_not_answer_or_are_of_an_older_epoch_are_gone() -> None:
    found = plan(report(1, epoch=5), report(2, epoch=0), known=(1, 2, 3))
    assert (found.epoch, found.nodes, found.gone) == (5, (1,), (2, 3))
    assert found.groups[0].survivors[0].node == 1


def test_hash_changes_with_what_matters_only() -> None:
    base = plan(report(1))
    assert base.hash == plan(report(1)).hash
    for other in (plan(report(1, (2, 11))), plan(report(1, commit=9)), plan(report(1), known=(1, 2))):
        assert other.hash != base.hash
    alive = {"leads": True, "members": seats((1,))}
    one, two = report(1, (2, 10), **alive), report(1, (2, 99), **alive)
    assert plan(one, groups=(1, 7)).hash == plan(two, groups=(1, 7)).hash, "groups that are alive go on working"


def test_orders_and_reports_come_back_as_they_were_sent() -> None:
    made = plan(report(1), report(4, unfit="broken: x"), known=(1, 2, 3, 4))
    installation = Installation(group=GROUP, node=NodeId(1), replica=ReplicaId(7), term=Term(9))
    order = Order(epoch=5, plan=made, installations=(installation,), ordered_by="operator/x", ordered_unix_ms=1)
    again = decode_order(encode_order(order))
    assert again == order
    assert again.plan.hash == made.hash
    assert (again.on(NodeId(1)), again.on(NodeId(2))) == ((installation,), ())
    assert decode_report(encode_report(report(1, outgoing=(3,)))) == report(1, outgoing=(3,))


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[1]", b'{"epoch": 1, "plan": {}}'])
def test_damaged_documents_are_refused(garbage: bytes) -> None:
    for decode in (decode_order, decode_report):
        with pytest.raises(Corrupt):
            decode(garbage)


def test_every_epoch_is_later_and_two_made_apart_differ() -> None:
    assert next_epoch(0, 5) == (1 << 32) | 5
    assert next_epoch((1 << 32) | 0xFFFFFFFF, 0) == 2 << 32
    assert next_epoch(0, 5) != next_epoch(0, 6)
    assert replace(report(1), epoch=next_epoch(0, 1)).epoch >> 32 == 1
