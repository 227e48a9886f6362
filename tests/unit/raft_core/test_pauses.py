"""A process that stood still: what its leaders and its followers may make of the time that passed."""

from __future__ import annotations

from dataclasses import replace

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term
from dwd.raft.core.messages import Heartbeat, HeartbeatReply, VoteReply
from dwd.raft.core.node import Node
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.types import EMPTY_HARD_STATE, EMPTY_SNAPSHOT, Configuration, Member, MemberRole, Role
from tests.raft_harness.seeded import SeededRng

OPTIONS = NodeOptions()
VOTERS = Configuration(
    members=tuple(Member(node=NodeId(i), replica=ReplicaId(i), role=MemberRole.VOTER) for i in (1, 2, 3))
)
LONG = 10 * OPTIONS.election_ticks_max


def replica() -> Node:
    return Node(
        group=GroupId(1), replica=ReplicaId(1), options=OPTIONS, rng=SeededRng(1), hard_state=EMPTY_HARD_STATE,
        snapshot=replace(EMPTY_SNAPSHOT, configuration=VOTERS), entries=(), applied=LogIndex(0),
        applied_configuration=VOTERS, tail_doubt=False,
    )  # fmt: skip


def settle(node: Node) -> None:
    while node.has_effects():
        node.persisted(node.take_effects().write)


def vote(node: Node, *, pre: bool) -> None:
    term = Term(node.status().term + pre)
    node.step(VoteReply(source=ReplicaId(2), target=ReplicaId(1), term=term, pre=pre, granted=True, doubtful=False))
    settle(node)


def leader() -> Node:
    node = replica()
    while node.status().role is Role.FOLLOWER:
        node.tick()
        settle(node)
    vote(node, pre=True)
    vote(node, pre=False)
    assert node.status().role is Role.LEADER
    hear(node)
    return node


def hear(node: Node) -> None:
    node.step(HeartbeatReply(source=ReplicaId(2), target=ReplicaId(1), term=node.status().term, round=1))
    settle(node)


def ticks_led(node: Node) -> int:
    """Until it leads no more."""
    count = 0
    while node.status().role is Role.LEADER:
        node.tick()
        settle(node)
        count += 1
        assert count < LONG
    return count


def test_a_leader_steps_down_soon_when_nobody_answers_after_its_pause() -> None:
    node = leader()
    node.tick(missed=LONG)
    settle(node)
    assert node.status().role is Role.LEADER
    assert ticks_led(node) <= 2 * OPTIONS.heartbeat_ticks + 1


def test_a_leader_goes_on_when_it_is_answered_after_its_pause() -> None:
    node = leader()
    node.tick(missed=LONG)
    hear(node)
    assert ticks_led(node) > OPTIONS.election_ticks_min


def test_a_short_pause_counts_against_a_leaders_contact_when_it_misses_ticks() -> None:
    undisturbed, paused = leader(), leader()
    paused.tick(missed=4)
    settle(paused)
    assert ticks_led(paused) + 1 + 4 == ticks_led(undisturbed)


def test_a_follower_does_not_stand_when_it_was_its_own_process_that_stood_still() -> None:
    node = replica()
    node.step(Heartbeat(source=ReplicaId(2), target=ReplicaId(1), term=Term(1), commit=LogIndex(0), round=1))
    settle(node)
    node.tick(missed=LONG)
    assert node.status().role is Role.FOLLOWER
    assert node.status().leader == 2
