"""The membership worker over a made-up host: what it asks of nodes, and when it leaves them alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import Busy, Conflict, Corrupt, DwError, OutcomeUnknown, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, ReplicaId, Stamp
from dwd.meta.core.control.rows import Domain, Liveness, NodeAddresses, NodeRow
from dwd.meta.core.pins import Pin, encode_pin, setting_of
from dwd.meta.workers.membership import REFUSED_SECONDS_MAX, REFUSED_SECONDS_MIN, MembershipWorker
from dwd.raft.core.types import ChangeKind, Configuration, ConfigurationChange, JointChange, Member, MemberRole
from dwd.raft.transport import Absence
from dwd.runtime.clock import SystemRng
from dwd.runtime.worker import Progress
from tests.twins.manual_clock import ManualClock

ONE, TWO = GroupId(1), GroupId(2)


def row(number: int, liveness: Liveness = Liveness.UP) -> NodeRow:
    return NodeRow(
        node=NodeId(number), name=f"n{number}", addresses=NodeAddresses(grpc="", s3="", admin=""),
        domain=Domain(zone=f"z{number}"), sealing_key=b"", sealed_keyring=b"", liveness=liveness,
        liveness_since=Stamp(0), joined=Stamp(0),
    )  # fmt: skip


def voters(*numbers: int) -> Configuration:
    return Configuration(
        members=tuple(Member(node=NodeId(n), replica=ReplicaId(100 + n), role=MemberRole.VOTER) for n in numbers)
    )


class Cluster:
    """Node 1 leads every group. `errors` are raised by what they are named after, one after another."""

    def __init__(self, groups: dict[GroupId, Configuration], nodes: list[NodeRow]) -> None:
        self.configurations = groups
        self.nodes = {node.node: node for node in nodes}
        self.absent: dict[NodeId, Any] = {}
        self.done: list[tuple[Any, ...]] = []
        self.errors: dict[str, list[DwError]] = {"change": [], "create": [], "drop": []}
        self.settings: dict[str, str] = {}
        self.held: dict[GroupId, asyncio.Event] = {}
        """Groups whose changes take until the event."""
        self.clock = ManualClock()
        view: Any = SimpleNamespace(
            topology=lambda: SimpleNamespace(
                nodes=tuple(self.nodes.values()), node=self.nodes.get, setting=lambda name: self.settings.get(name, "")
            )
        )
        self.worker = MembershipWorker(
            node=NodeId(1), host=self, view=view, create_replica=self.create, drop_replica=self.drop,
            clock=self.clock, rng=SystemRng(),
        )  # fmt: skip

    def groups(self) -> tuple[GroupId, ...]:
        return tuple(self.configurations)

    def hibernates(self, group: GroupId) -> bool:
        return False

    def status(self, group: GroupId) -> Any:
        configuration = self.configurations[group]
        members = [SimpleNamespace(member=m, caught_up=False, last_contact_seconds=0.0) for m in configuration.members]
        return SimpleNamespace(
            group=group, failed=None, leader=101, replica=101, configuration=configuration, members=members
        )

    def missing(self, group: GroupId) -> Any:
        return self.absent

    async def change(
        self, group: GroupId, change: ConfigurationChange | JointChange, *, deadline: float
    ) -> Configuration:
        self._maybe_raise("change")
        if group in self.held:
            await self.held[group].wait()
        for event in self.held.values():
            event.set()
        for one in change.changes if isinstance(change, JointChange) else (change,):
            self.done.append((one.kind, group, one.member.node))
            if one.kind is ChangeKind.REMOVE:
                rest = tuple(m for m in self.configurations[group].members if m.replica != one.member.replica)
                self.configurations[group] = Configuration(members=rest)
        return self.configurations[group]

    async def transfer(self, group: GroupId, to: NodeId | None, *, deadline: float) -> NodeId:
        self.done.append(("transfer", group, to))
        return to or NodeId(0)

    async def create(self, node: NodeId, group: GroupId, replica: ReplicaId, *, witness: bool) -> None:
        self._maybe_raise("create")
        self.done.append(("create witness" if witness else "create", group, node))

    async def drop(self, node: NodeId, group: GroupId, replica: ReplicaId) -> None:
        self._maybe_raise("drop")
        self.done.append(("drop", group, node, replica))

    def _maybe_raise(self, name: str) -> None:
        if self.errors[name]:
            raise self.errors[name].pop(0)


async def test_witness_comes_back_as_one_when_its_replica_is_lost() -> None:
    three = voters(1, 2, 3).members
    configuration = Configuration(members=(*three[:2], replace(three[2], role=MemberRole.WITNESS)))
    cluster = Cluster({ONE: configuration}, [row(n) for n in (1, 2, 3)])
    roles = {NodeId(1): MemberRole.VOTER, NodeId(2): MemberRole.VOTER, NodeId(3): MemberRole.WITNESS}
    cluster.settings[setting_of(ONE)] = encode_pin(Pin(group=ONE, roles=roles))
    cluster.absent = {NodeId(3): Absence.UNKNOWN}
    assert await cluster.worker.work() is Progress.BUSY
    assert cluster.done[0] == ("create witness", ONE, 3)
    assert cluster.done[1][0] is ChangeKind.REPLACE_LOST


async def test_removed_replica_is_dropped_when_it_has_left() -> None:
    cluster = Cluster({ONE: voters(1, 2, 3, 4)}, [row(n) for n in (1, 2, 3, 4)])
    assert await cluster.worker.work() is Progress.BUSY
    assert cluster.done == [(ChangeKind.REMOVE, ONE, 4), ("drop", ONE, 4, 104)]
    cluster.done.clear()
    assert await cluster.worker.work() is Progress.IDLE
    assert cluster.done == []


async def test_removed_replica_is_dropped_later_when_its_node_does_not_answer() -> None:
    cluster = Cluster({ONE: voters(1, 2, 3, 4)}, [row(n) for n in (1, 2, 3, 4)])
    cluster.errors["drop"] = [Unavailable("t.u", "down")]
    await cluster.worker.work()
    await cluster.worker.work()
    assert [step[0] for step in cluster.done] == [ChangeKind.REMOVE]
    cluster.clock.advance(REFUSED_SECONDS_MAX + 1)
    await cluster.worker.work()
    assert cluster.done[1:] == [("drop", ONE, 4, 104)]


async def test_nobody_is_told_when_the_node_left_the_cluster() -> None:
    cluster = Cluster({ONE: voters(1, 2, 3, 4)}, [row(n) for n in (1, 2, 3)])
    await cluster.worker.work()
    await cluster.worker.work()
    assert cluster.done == [(ChangeKind.REMOVE, ONE, 4)]


async def test_replica_is_kept_when_its_removal_may_not_have_happened() -> None:
    cluster = Cluster({ONE: voters(1, 2, 3, 4)}, [row(n) for n in (1, 2, 3, 4)])
    cluster.errors["change"] = [OutcomeUnknown("t.o", "no answer")]
    with pytest.raises(OutcomeUnknown):
        await cluster.worker.work()
    assert cluster.done == []


@pytest.mark.parametrize("error", [Busy("raft.leader_new", "new"), Conflict("raft.change_in_flight", "another")])
async def test_worker_rests_when_a_change_must_wait(error: DwError) -> None:
    cluster = Cluster({ONE: voters(1, 2, 3, 4)}, [row(n) for n in (1, 2, 3, 4)])
    cluster.errors["change"] = [error]
    assert await cluster.worker.work() is Progress.IDLE
    assert cluster.done == []


async def test_other_groups_are_looked_after_when_one_is_in_trouble() -> None:
    cluster = Cluster({ONE: voters(1, 2, 3, 4), TWO: voters(1, 2, 3, 4)}, [row(n) for n in (1, 2, 3, 4)])
    cluster.errors["change"] = [Unavailable("t.u", "no quorum")]
    with pytest.raises(Unavailable):
        await cluster.worker.work()
    assert cluster.done == [(ChangeKind.REMOVE, TWO, 4), ("drop", TWO, 4, 104)]


async def test_other_groups_go_on_when_one_takes_long() -> None:
    cluster = Cluster({ONE: voters(1, 2, 3, 4), TWO: voters(1, 2, 3, 4)}, [row(n) for n in (1, 2, 3, 4)])
    cluster.held[ONE] = asyncio.Event()  # set by the change of the other group
    async with asyncio.timeout(5):
        assert await cluster.worker.work() is Progress.BUSY
    assert [step[1] for step in cluster.done if step[0] is ChangeKind.REMOVE] == [TWO, ONE]


async def test_node_is_passed_over_for_a_while_when_it_refused_a_replica() -> None:
    cluster = Cluster({ONE: voters(1)}, [row(n) for n in (1, 2, 3)])
    cluster.errors["create"] = [Conflict("raft.replica_in_use", "in use")]
    assert await cluster.worker.work() is Progress.IDLE
    await cluster.worker.work()
    assert cluster.done == [("create", ONE, 3), (ChangeKind.ADD_LEARNER, ONE, 3)]


async def test_node_that_did_not_answer_is_tried_again_soon_and_then_ever_later() -> None:
    cluster = Cluster({CONTROL_GROUP: voters(1)}, [row(n) for n in (1, 2)])
    cluster.errors["create"] = [Unavailable("t.u", "down") for _ in range(8)]
    tries = []
    for step in range(100):
        left = len(cluster.errors["create"])
        await cluster.worker.work()
        tries += [step] * (left - len(cluster.errors["create"]))
        cluster.clock.advance(REFUSED_SECONDS_MIN)
    rests = [(b - a) * REFUSED_SECONDS_MIN for a, b in pairwise(tries)]
    assert rests == [0.5, 1, 2, 4, 8, REFUSED_SECONDS_MAX, REFUSED_SECONDS_MAX]


async def test_operator_s_pin_is_worked_towards_and_not_undone() -> None:
    cluster = Cluster({ONE: voters(1, 2, 3)}, [row(n) for n in (1, 2, 3, 4)])
    cluster.settings["raft.members.1"] = encode_pin(
        Pin(group=ONE, roles={NodeId(1): MemberRole.VOTER, NodeId(2): MemberRole.VOTER})
    )
    assert await cluster.worker.work() is Progress.BUSY
    assert await cluster.worker.work() is Progress.IDLE
    assert cluster.done == [(ChangeKind.REMOVE, ONE, 3), ("drop", ONE, 3, 103)]
    cluster.settings.clear()
    await cluster.worker.work()
    assert cluster.done[2:] == [("create", ONE, 3), (ChangeKind.ADD_LEARNER, ONE, 3)], "released: the cluster decides"


async def test_leadership_goes_first_when_the_leader_is_pinned_away() -> None:
    cluster = Cluster({ONE: voters(1, 2, 3)}, [row(n) for n in (1, 2, 3)])
    cluster.settings["raft.members.1"] = f"voter={2:016x},{3:016x}"
    assert await cluster.worker.work() is Progress.BUSY
    assert cluster.done == [("transfer", ONE, 2)]


async def test_voters_too_many_leave_together() -> None:
    cluster = Cluster({ONE: voters(1, 2, 3, 4, 5)}, [row(n) for n in (1, 2, 3, 4, 5)])
    cluster.settings["raft.members.1"] = f"voter={1:016x},{2:016x},{3:016x}"
    await cluster.worker.work()
    assert cluster.done[:2] == [(ChangeKind.REMOVE, ONE, 4), (ChangeKind.REMOVE, ONE, 5)]
    assert {step[0] for step in cluster.done[2:]} == {"drop"}


async def test_group_is_left_alone_when_its_pin_cannot_be_read() -> None:
    cluster = Cluster({ONE: voters(1), TWO: voters(1)}, [row(n) for n in (1, 2, 3)])
    cluster.settings["raft.members.1"] = "voter=nonsense"
    with pytest.raises(Corrupt):
        await cluster.worker.work()
    assert {step[1] for step in cluster.done} == {TWO}


async def test_wiped_node_is_given_control_back_when_nobody_could_hear_of_its_return() -> None:
    cluster = Cluster({CONTROL_GROUP: voters(1), ONE: voters(1)}, [row(1), row(2, Liveness.DOWN)])
    await cluster.worker.work()
    assert cluster.done == [("create", CONTROL_GROUP, 2), (ChangeKind.ADD_LEARNER, CONTROL_GROUP, 2)]
