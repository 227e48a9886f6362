"""When the leader of control has leaderships handed over, and when it leaves them where they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dwd.base.errors import DeadlineExceeded, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, Stamp
from dwd.meta.core.control.rows import Liveness, NodeStanding
from dwd.meta.core.leaderships import Leading, LedGroup
from dwd.meta.workers.leaderships import MOVES_AT_ONCE, REST_SECONDS, SETTLE_SECONDS, LeadershipWorker
from dwd.runtime.worker import Progress
from tests.twins.manual_clock import ManualClock
from tests.unit.node.rows import node_row, topology


class Cluster:
    """Every node votes in every group; node 1 leads all of `groups` at first."""

    def __init__(self, nodes: int, groups: int) -> None:
        self.clock = ManualClock()
        self.rows = {n: node_row(n) for n in range(1, nodes + 1)}
        self.leader = {GroupId(g): NodeId(1) for g in range(groups)}
        self.view = SimpleNamespace(topology=self.topology, topology_or_none=self.topology)
        self.moved: list[tuple[GroupId, NodeId, NodeId]] = []
        self.silent: set[NodeId] = set()
        self.refusing = False
        me: Any = self
        self.worker = LeadershipWorker(client=me, leaderships=me, clock=self.clock)

    def topology(self) -> Any:
        return topology(*self.rows.values())

    def leads(self, group: GroupId) -> bool:
        return group == CONTROL_GROUP

    async def tell(self, node: NodeId, *, seconds: float) -> Leading:
        if node in self.silent:
            raise Unavailable("x", "away")
        fit = tuple(NodeId(n) for n in self.rows if n != node)
        return Leading(groups=tuple(LedGroup(group=g, fit=fit) for g, at in self.leader.items() if at == node))

    async def hand_over(self, node: NodeId, group: GroupId, to: NodeId, *, seconds: float) -> None:
        if self.refusing:
            raise DeadlineExceeded("x", "nobody took over")
        assert self.leader[group] == node
        self.leader[group] = to
        self.moved.append((group, node, to))

    def led(self) -> list[int]:
        return [list(self.leader.values()).count(NodeId(n)) for n in self.rows]

    async def settle(self) -> None:
        await self.worker.work()
        self.clock.advance(SETTLE_SECONDS)
        while await self.worker.work() is Progress.BUSY:
            continue


async def test_leaderships_are_spread_in_bounded_rounds_when_one_node_has_all() -> None:
    cluster = Cluster(nodes=3, groups=31)
    assert await cluster.worker.work() is Progress.IDLE, "a new leader of control looks first"
    assert cluster.moved == []
    cluster.clock.advance(SETTLE_SECONDS)
    assert await cluster.worker.work() is Progress.BUSY
    assert len(cluster.moved) == MOVES_AT_ONCE
    while await cluster.worker.work() is Progress.BUSY:
        continue
    assert sorted(cluster.led()) == [10, 10, 11]
    before = len(cluster.moved)
    cluster.clock.advance(10 * REST_SECONDS)
    assert await cluster.worker.work() is Progress.IDLE
    assert len(cluster.moved) == before == 20, "no more than needed, and then it rests"


async def test_a_node_leads_nothing_new_when_it_is_drained_or_down_or_silent_or_just_came() -> None:
    for change in (
        {"standing": NodeStanding.DRAINING},
        {"liveness": Liveness.DOWN},
        {"liveness_since": Stamp(2 << 60)},
        {},
    ):
        cluster = Cluster(nodes=3, groups=9)
        cluster.rows[3] = node_row(3, **change)
        cluster.silent = set() if change else {NodeId(3)}
        await cluster.settle()
        assert cluster.led() == [5, 4, 0] or cluster.led() == [4, 5, 0]


async def test_a_group_rests_when_it_could_not_be_handed_over() -> None:
    cluster = Cluster(nodes=2, groups=2)
    cluster.refusing = True
    await cluster.settle()
    cluster.refusing = False
    await cluster.worker.work()
    assert cluster.moved == []
    cluster.clock.advance(REST_SECONDS)
    await cluster.worker.work()
    assert len(cluster.moved) == 1
