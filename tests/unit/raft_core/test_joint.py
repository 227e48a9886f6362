"""Several members at once: what goes into the log, and who decides meanwhile (thesis 4.3)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.base.errors import AlreadyExists, DwError, InvalidArgument, NotFound, SafetyRefused
from dwd.base.ids import NodeId, ReplicaId
from dwd.raft.core import joint
from dwd.raft.core.changes import changed
from dwd.raft.core.configuration_codec import decode_configuration, encode_configuration
from dwd.raft.core.configurations import halves_of
from dwd.raft.core.quorum import holds_majority, jointly_agreed
from dwd.raft.core.types import ChangeKind, Configuration, ConfigurationChange, Member, MemberRole
from tests.raft_harness.single import members


def change(kind: ChangeKind, replica: int, *, node: int | None = None, priority: int = 1) -> ConfigurationChange:
    member = Member(
        node=NodeId(replica if node is None else node), replica=ReplicaId(replica), role=MemberRole.LEARNER,
        priority=priority,
    )  # fmt: skip
    return ConfigurationChange(kind=kind, member=member)


def after(present: Configuration, *changes: ConfigurationChange, caught_up: bool = True) -> Configuration:
    return changed(present, changes, leader=ReplicaId(1), caught_up=lambda _: caught_up)


def voters(configuration: Configuration) -> list[int]:
    return [int(m.replica) for m in configuration.voters()]


def test_one_entry_does_when_one_voter_changes() -> None:
    present = members(3, learners=1)
    wanted = after(present, change(ChangeKind.PROMOTE, 4), change(ChangeKind.ADD_LEARNER, 5))
    assert joint.between(present, wanted) == wanted


def test_old_and_new_decide_together_when_two_voters_change() -> None:
    present = members(3, learners=1)
    wanted = after(present, change(ChangeKind.PROMOTE, 4), change(ChangeKind.REMOVE, 2))
    both = joint.between(present, wanted)
    assert halves_of(both) == ((1, 3, 4), (1, 2, 3))
    assert (both.leaving, voters(both)) == ((2,), [1, 3, 4])
    assert joint.left(both) == wanted


def test_a_demoted_voter_votes_with_the_old_ones_when_joint() -> None:
    present = members(5)
    wanted = after(present, change(ChangeKind.DEMOTE, 4), change(ChangeKind.DEMOTE, 5))
    both = joint.between(present, wanted)
    assert halves_of(both) == ((1, 2, 3), (1, 2, 3, 4, 5))
    assert both.leaving == ()


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ([change(ChangeKind.ADD_LEARNER, 9, node=1)], AlreadyExists),
        ([change(ChangeKind.ADD_LEARNER, 0, node=9)], InvalidArgument),
        ([change(ChangeKind.ADD_WITNESS, 2, node=9)], AlreadyExists),
        ([change(ChangeKind.PROMOTE, 2)], AlreadyExists),
        ([change(ChangeKind.PROMOTE, 4)], AlreadyExists),
        ([change(ChangeKind.DEMOTE, 4)], InvalidArgument),
        ([change(ChangeKind.DEMOTE, 5)], AlreadyExists),
        ([change(ChangeKind.REMOVE, 9)], NotFound),
        ([change(ChangeKind.REPLACE_LOST, 9, node=9)], NotFound),
        ([change(ChangeKind.REPLACE_LOST, 9, node=1)], InvalidArgument),
        ([change(ChangeKind.SET_PRIORITY, 2, priority=-1)], InvalidArgument),
        ([change(ChangeKind.REMOVE, r) for r in (1, 2, 3)], SafetyRefused),
        ([change(ChangeKind.SET_PRIORITY, r, priority=0) for r in (1, 2, 3)], SafetyRefused),
    ],
)
def test_a_change_is_refused_when_it_makes_no_sense(wish: list[ConfigurationChange], error: type[DwError]) -> None:
    with pytest.raises(error):
        after(members(3, witnesses=1, learners=1), *wish)


def test_a_learner_is_not_promoted_when_it_is_behind() -> None:
    with pytest.raises(SafetyRefused):
        after(members(3, learners=1), change(ChangeKind.PROMOTE, 4), caught_up=False)


def test_a_lost_witness_is_a_witness_again_when_it_is_replaced() -> None:
    wanted = after(members(2, witnesses=1), change(ChangeKind.REPLACE_LOST, 9, node=3))
    assert wanted.find(ReplicaId(9)) == Member(node=NodeId(3), replica=ReplicaId(9), role=MemberRole.WITNESS)


SETS = st.sets(st.integers(1, 9), min_size=1)


@given(old=SETS, new=SETS, has=st.sets(st.integers(1, 9)))
def test_two_decisions_share_a_voter_when_a_group_goes_from_old_to_new(
    old: set[int], new: set[int], has: set[int]
) -> None:
    """Whatever has a majority before, while joint, or after: its complement has none at the step beside it."""
    before, both = _voting(old), joint.between(_voting(old), _voting(new))
    steps = [halves_of(before), halves_of(both), halves_of(joint.left(both) if both.is_joint else both)]
    for one, other in pairwise(steps):
        if holds_majority(one, lambda replica: replica in has):
            assert not holds_majority(other, lambda replica: replica not in has)


@given(old=SETS, new=SETS)
def test_a_configuration_is_the_same_when_it_was_in_the_log(old: set[int], new: set[int]) -> None:
    both = joint.between(_voting(old), _voting(new))
    assert decode_configuration(encode_configuration(both)) == both


@given(old=SETS, new=SETS, matches=st.lists(st.integers(0, 20), min_size=10, max_size=10))
def test_an_index_is_agreed_when_both_halves_have_it(old: set[int], new: set[int], matches: list[int]) -> None:
    halves = halves_of(joint.between(_voting(old), _voting(new)))
    agreed = jointly_agreed(halves, lambda replica: matches[replica])
    assert holds_majority(halves, lambda replica: matches[replica] >= agreed)
    assert not holds_majority(halves, lambda replica: matches[replica] > agreed)


def _voting(replicas: set[int]) -> Configuration:
    return Configuration(
        members=tuple(Member(node=NodeId(r), replica=ReplicaId(r), role=MemberRole.VOTER) for r in sorted(replicas))
    )
