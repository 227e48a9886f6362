"""The pure decision about the next membership step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from dwd.base.ids import NodeId, ReplicaId, Stamp
from dwd.meta.core.control.rows import Domain, Liveness, NodeAddresses, NodeRow, NodeStanding
from dwd.meta.core.membership import Desired, Seen, Step, desired, next_step, voters_wanted
from dwd.raft.core.types import ChangeKind, Configuration, Member, MemberRole


def node(number: int, zone: str = "", liveness: Liveness = Liveness.UP) -> NodeRow:
    return NodeRow(
        node=NodeId(number), name=f"n{number}", addresses=NodeAddresses(grpc="", s3="", admin=""),
        domain=Domain(zone=zone), sealing_key=b"", sealed_keyring=b"", liveness=liveness, liveness_since=Stamp(0),
        joined=Stamp(0),
    )  # fmt: skip


def configuration(voters: Iterable[int], learners: Iterable[int] = ()) -> Configuration:
    roles = [(n, MemberRole.VOTER) for n in voters] + [(n, MemberRole.LEARNER) for n in learners]
    return Configuration(
        members=tuple(Member(node=NodeId(n), replica=ReplicaId(100 + n), role=role) for n, role in roles)
    )


def ids(numbers: Iterable[int]) -> tuple[NodeId, ...]:
    return tuple(NodeId(n) for n in numbers)


def step(
    voters: Iterable[int],
    learners: Iterable[int] = (),
    *,
    want: Iterable[int] = (1, 2, 3),
    listen: Iterable[int] = (),
    caught_up: Iterable[int] = (),
    missing: Iterable[int] = (),
    down: Iterable[int] = (),
) -> Any:
    """The kind and node of the one change, all of several, where to hand leadership, or nothing."""
    up = [n for n in range(1, 10) if n not in set(down)]
    found: Step | None = next_step(
        Desired(voters=ids(want), learners=ids(listen)),
        Seen(
            leader=NodeId(1), configuration=configuration(voters, learners), caught_up=ids(caught_up),
            missing=ids(missing), reachable=ids(up), admissible=ids(n for n in up if n != 1),
        ),
    )  # fmt: skip
    if found is None or found.hand_over is not None:
        return found and ("HAND_OVER", found.hand_over)
    told = [(change.kind.name, int(change.node)) for change in found.changes]
    return told[0] if len(told) == 1 else told


@pytest.mark.parametrize(
    ("nodes", "losses", "voters"),
    [(1, 2, 1), (2, 2, 1), (3, 2, 3), (4, 2, 3), (5, 2, 5), (6, 2, 5), (9, 2, 5), (9, 1, 3), (9, 4, 5), (9, 0, 1)],
)
def test_voters_are_odd_and_as_many_as_losses_ask(nodes: int, losses: int, voters: int) -> None:
    assert voters_wanted(nodes, losses) == voters


def test_voters_are_spread_over_zones_when_chosen() -> None:
    nodes = [node(n, zone) for n, zone in ((1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c"))]
    assert desired(nodes[:4], configuration([1]), everywhere=False).voters == (1, 2, 4)
    assert desired(nodes, configuration([1]), everywhere=False).voters == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("standing", [NodeStanding.DRAINING, NodeStanding.DRAINED])
def test_a_drained_node_votes_nowhere_and_only_listens_to_control(standing: NodeStanding) -> None:
    nodes = [replace(node(n), standing=standing if n == 2 else NodeStanding.ACTIVE) for n in range(1, 6)]
    of_shard = desired(nodes, configuration([1, 2, 3, 4, 5]), everywhere=False)
    assert (of_shard.voters, of_shard.learners) == ((1, 3, 4), ()), "four are left: three of them vote"
    of_control = desired(nodes, configuration([1, 2, 3, 4, 5]), everywhere=True)
    assert (of_control.voters, of_control.learners) == ((1, 3, 4), (2, 5))


def test_present_voters_stay_when_others_would_do_as_well() -> None:
    nodes = [node(n) for n in range(1, 7)]
    wanted = desired(nodes, configuration([2, 3, 4, 5, 6]), everywhere=True)
    assert (wanted.voters, wanted.learners) == ((2, 3, 4, 5, 6), (1,))


def test_no_vote_is_given_to_a_node_that_is_down() -> None:
    nodes = [node(1), node(2, liveness=Liveness.DOWN), node(3), node(4)]
    assert desired(nodes, configuration([1]), everywhere=False).voters == (1, 3, 4)
    assert desired(nodes, configuration([1, 2, 3]), everywhere=False).voters == (1, 2, 3), "but it keeps the one it has"


def test_steps_follow_one_after_another() -> None:
    assert step([1]) == ("ADD_LEARNER", 2)
    assert step([1], [2]) == ("ADD_LEARNER", 3)
    assert step([1], [2, 3], caught_up=[3]) is None, "two voters survive no more than one: 2 will be there soon"
    assert step([1], [2, 3], caught_up=[2, 3]) == [("PROMOTE", 2), ("PROMOTE", 3)]
    assert step([1], [2, 3], caught_up=[3], down=[2]) == ("PROMOTE", 3)
    assert step([1, 3], [2]) is None
    assert step([1, 2, 3], listen=[4]) == ("ADD_LEARNER", 4)
    assert step([1, 2, 3], [4], listen=[4]) is None
    assert step([1, 2, 3], [4]) == ("REMOVE", 4)
    assert step([1, 2, 3, 4]) == ("REMOVE", 4)
    assert step([1, 2, 4, 5]) == ("REMOVE", 4), "four voters are not better than three"
    assert step([1, 2, 5]) == ("ADD_LEARNER", 3)
    assert step([1, 2, 5], [3], caught_up=[3]) == [("PROMOTE", 3), ("REMOVE", 5)]
    assert step([1, 2, 5], [3], caught_up=[3], listen=[5]) == [("PROMOTE", 3), ("DEMOTE", 5)]


def test_voter_that_should_only_listen_keeps_its_copy() -> None:
    assert step([1, 2, 3, 4], listen=[4]) == ("DEMOTE", 4)
    assert step([1, 2, 3, 4, 5], listen=[4, 5]) == [("DEMOTE", 4), ("DEMOTE", 5)]


def test_dead_voter_goes_first_when_several_are_too_many() -> None:
    assert step([1, 2, 3, 4, 5], want=[1, 2, 3], down=[5]) == [("REMOVE", 5), ("REMOVE", 4)]
    assert step([1, 2, 3, 4, 5], [6], want=[1, 2, 6], caught_up=[6], down=[4]) == [
        ("PROMOTE", 6), ("REMOVE", 4), ("REMOVE", 3), ("REMOVE", 5)
    ]  # fmt: skip


def test_leader_that_is_to_go_hands_over_first() -> None:
    assert step([1, 2, 3], want=[2, 3]) == ("HAND_OVER", 2)
    assert step([1, 2, 3], want=[2, 3], down=[2]) == ("HAND_OVER", 3)
    assert step([1], [2], want=[2], caught_up=[2]) == ("PROMOTE", 2), "there is nobody to hand over to yet"


def test_nothing_is_done_while_a_group_is_between_two_configurations() -> None:
    joint = replace(configuration([1, 2, 3]), outgoing=(ReplicaId(101),))
    assert next_step(Desired(voters=ids([1])), seen(joint)) is None


def test_last_but_one_voter_leaves_when_both_answer() -> None:
    assert step([1, 2], want=[1]) == ("REMOVE", 2)
    assert step([1, 2], want=[1], down=[2]) is None


def test_witness_is_added_as_one_and_a_voter_that_turns_witness_comes_back() -> None:
    wish = Desired(voters=ids([1, 2]), witnesses=ids([3]))
    assert changes(wish, configuration([1, 2])) == [("ADD_WITNESS", 3)]
    assert changes(wish, configuration([1, 2, 3])) == [("REMOVE", 3)]
    assert changes(wish, configuration([1, 2], [3])) == [("REMOVE", 3)]


def seen(present: Configuration) -> Seen:
    everyone = ids(range(1, 10))
    return Seen(
        leader=NodeId(1), configuration=present, caught_up=(), missing=(), reachable=everyone, admissible=everyone
    )


def changes(wish: Desired, present: Configuration) -> list[tuple[str, int]]:
    found = next_step(wish, seen(present))
    return [] if found is None else [(change.kind.name, int(change.node)) for change in found.changes]


def test_nothing_is_removed_when_the_rest_would_be_no_quorum() -> None:
    assert step([1, 2, 3, 4], down=[2, 3]) is None
    assert step([1, 2, 3, 4], missing=[2], down=[3, 4]) is None
    assert step([2, 3, 4, 1], want=[2, 3, 4]) == ("HAND_OVER", 2), "a leader never removes itself"


def test_lost_replica_is_replaced_when_the_rest_is_a_quorum() -> None:
    assert step([1, 2, 3], missing=[2]) == ("REPLACE_LOST", 2)
    assert step([1, 2, 3], missing=[2], down=[3]) is None
    assert step([1, 2, 3], missing=[2], down=[2]) is None, "its node must be there to take the new one"
    assert step([1, 2, 3], [4], listen=[4], missing=[4]) == ("REPLACE_LOST", 4)
    assert step([1, 2], missing=[2], want=[1, 2]) is None


def test_member_that_is_only_down_is_left_alone() -> None:
    assert step([1, 2, 3], down=[3]) is None


def test_every_growth_ends_where_it_should() -> None:
    for count in range(1, 10):
        nodes = [node(n, f"z{n % 3}") for n in range(1, count + 1)]
        present = configuration([1])
        for _ in range(100):
            wanted = desired(nodes, present, everywhere=True)
            everyone = ids(range(1, count + 1))
            found = next_step(
                wanted,
                Seen(
                    leader=NodeId(1), configuration=present, caught_up=everyone, missing=(), reachable=everyone,
                    admissible=everyone[1:],
                ),
            )  # fmt: skip
            if found is None:
                break
            present = apply(present, found)
        voters = {m.node for m in present.voters()}
        assert voters == set(desired(nodes, present, everywhere=True).voters)
        assert len(present.members) == count
        assert len(voters) == voters_wanted(count)


def apply(present: Configuration, found: Step) -> Configuration:
    members = {m.node: m for m in present.members}
    for change in found.changes:
        replica = change.replica or ReplicaId(100 + change.node)
        match change.kind:
            case ChangeKind.ADD_LEARNER | ChangeKind.DEMOTE:
                members[change.node] = Member(node=change.node, replica=replica, role=MemberRole.LEARNER)
            case ChangeKind.PROMOTE:
                members[change.node] = Member(node=change.node, replica=replica, role=MemberRole.VOTER)
            case _:
                del members[change.node]
    return Configuration(members=tuple(members.values()))
