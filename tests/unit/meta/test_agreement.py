"""Who is right at a checkpoint."""

from __future__ import annotations

from dwd.base.ids import NodeId, ReplicaId
from dwd.meta.core.agreement import Evidence, Verdict, Witnessed, judge


def verdict(*said: Evidence | None, learners: tuple[Evidence | None, ...] = ()) -> Verdict:
    """Nodes 1, 2, ... said so."""
    members = [
        Witnessed(node=NodeId(n), replica=ReplicaId(100 + n), votes=n <= len(said), said=told)
        for n, told in enumerate((*said, *learners), start=1)
    ]
    return judge(members, 7)


A, B = Evidence(digest=b"a"), Evidence(digest=b"b")
ROTTEN = Evidence(digest=b"a", rot="rows of table objects")
GONE = Evidence(quarantined="wrong")
LATE = Evidence()


def wrong(found: Verdict) -> list[int]:
    return [w.node for w in found.wrong]


def test_nobody_is_wrong_when_all_agree() -> None:
    found = verdict(A, A, A, learners=(A,))
    assert (found.right, found.wrong, found.disputed, found.complete) == ((1, 2, 3), (), "", True)


def test_minority_is_wrong_when_a_majority_agrees() -> None:
    assert wrong(verdict(A, B, A)) == [2]
    assert wrong(verdict(A, B, A, B, A)) == [2, 4]
    assert wrong(verdict(A, A, A, learners=(B,))) == [4], "learners are judged and do not judge"
    assert verdict(A, B, A).right == (1, 3)


def test_rotten_replica_is_wrong_whatever_it_recorded() -> None:
    found = verdict(ROTTEN, A, A)
    assert wrong(found) == [1]
    assert found.wrong[0].reason == "rows of table objects"
    assert found.right == (2, 3)


def test_nobody_is_judged_when_there_are_two_voters() -> None:
    for said in ((A, B), (ROTTEN, A)):
        found = verdict(*said)
        assert found.wrong == ()
        assert found.right == ()
        assert "no majority" in found.disputed


def test_nobody_is_judged_when_the_majority_did_not_testify() -> None:
    found = verdict(A, B, None)
    assert (found.wrong, found.complete) == ((), False)
    assert found.disputed, "that they differ is known already"
    found = verdict(A, None, LATE)
    assert (found.wrong, found.disputed, found.complete) == ((), "", False)
    assert wrong(verdict(A, A, None, B, LATE)) == [], "two of five are no majority"
    assert wrong(verdict(A, A, A, B, None)) == [4]


def test_quarantined_replica_neither_counts_nor_is_judged_again() -> None:
    found = verdict(A, A, GONE)
    assert (found.wrong, found.complete) == ((), True)
    assert verdict(A, ROTTEN, GONE).disputed
