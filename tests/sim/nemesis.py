"""What goes wrong: one fault after another, drawn by weight, some of them overlapping.

Disks may lose what was not synced on any node at any time, on all at once too: nothing acknowledged may be lost by
that. A disk that loses what *was* synced (an empty one put in its place) hits one node at a time, and the next one only
after everybody is a full member again: more is beyond what a quorum can promise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from dwd.base.errors import DwError
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId
from tests.sim import operator
from tests.sim.network import Weather
from tests.twins.meta_group import SHARD
from tests.twins.virtual_time import SeededRng

if TYPE_CHECKING:
    from tests.sim.process import SimNode
    from tests.sim.world import World

GROUPS = (CONTROL_GROUP, SHARD)
CRASH_STEPS = 60
"""A node may die inside any of so many next changes to its disk."""
SKEW_MS = 400
ASKED_SECONDS = 5.0
AWAY_SECONDS = 6.0


class Nemesis:
    def __init__(self, world: World, rng: SeededRng) -> None:
        self._world = world
        self._rng = rng
        self._down_seconds: dict[NodeId, float] = {}
        self._harmed: NodeId | None = None
        """The node whose disk lost what was synced, until all is well again."""
        self._healing = False
        self._jobs: dict[asyncio.Task[None], None] = {}
        self._faults: dict[str, Callable[[], None]] = {
            "crash": lambda: self._kill(self._any(), power=False),
            "power_loss": lambda: self._kill(self._any(), power=True),
            "crash_in_write": lambda: self._any().disk.die_after(self._rng.below(CRASH_STEPS)),
            "kill_leader": self._kill_leader,
            "blackout": self._blackout,
            "restart": self._restart,
            "partition": self._partition,
            "one_way": lambda: self._one_way(self._any()),
            "isolate_leader": self._isolate_leader,
            "succession": self._succession,
            "storm": self._storm,
            "pause": self._pause,
            "slow_disk": self._slow_disk,
            "full_disk": self._full_disk,
            "failed_sync": self._failed_sync,
            "lose_replica": self._lose_replica,
            "away": lambda: self._kill(self._any(), power=True, seconds=AWAY_SECONDS),
            "skew": self._skew,
            "compact": self._compact,
            "transfer": self._transfer,
        }

    async def run(self) -> None:
        plan = self._world.plan
        names = sorted(plan.faults)
        while not self._healing:
            await asyncio.sleep(self._rng.uniform(0, 2 / plan.faults_per_second))
            if self._healing:
                return
            if not plan.reconciled and self._rng.below(3) == 0:
                for _ in range(1 + self._rng.below(3)):  # operators who do not know of each other
                    self._later(0, lambda: operator.change(self._world, self._rng))
            name = self._draw(names)
            self._world.counts[f"fault {name}"] += 1
            self._world.counts["faults"] += 1
            self._faults[name]()

    async def heal(self) -> None:
        """No more faults; everything that was broken works again."""
        self._healing = True
        world = self._world
        world.network.cut.clear()
        world.network.weather = Weather()
        for node in world.nodes:
            node.slowness = 1.0
            node.disk.full = False
            node.disk.sync_fails = False
            node.disk.die_after(1 << 60)
            node.clock.skew_ms = 0
            if node.endpoint is not None and node.endpoint.life.paused is not None:
                world.loop.resume(node.endpoint.life)
            if not node.up:
                node.start()

    def fell(self, node: SimNode, *, power: bool) -> None:
        """A node died of what was done to it; it comes back in a while."""
        self._kill(node, power=power)

    def excuses(self, node: SimNode) -> bool:
        """Whether a node that gives up does what it should."""
        return node.disk.sync_fails or node.disk.dead or node.disk.full

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _kill(self, node: SimNode, *, power: bool, seconds: float | None = None) -> None:
        if not node.up:
            return
        node.kill(power=power)
        down = seconds if seconds is not None else self._seconds(0.1, 3.0)
        self._after(0.05 if self._healing else down, lambda: None if node.up else node.start())

    def _kill_leader(self) -> None:
        leader = self._world.leader(SHARD)
        if leader is not None:
            self._kill(leader, power=bool(self._rng.below(2)))

    def _blackout(self) -> None:
        """All at once."""
        for node in self._world.nodes:
            self._kill(node, power=True, seconds=self._rng.uniform(0.1, 1.0))

    def _restart(self) -> None:
        node = self._any()

        async def going() -> None:
            await node.stop()
            await asyncio.sleep(0.2)
            if not node.up:
                node.start()

        self._later(0, going)

    def _pause(self) -> None:
        """The process stands still; its timers come late, its messages wait."""
        node = self._any()
        if node.endpoint is not None and node.endpoint.life.paused is None:
            life = node.endpoint.life
            self._world.loop.pause(life)
            self._after(self._seconds(0.2, 4.0), lambda: self._world.loop.resume(life))

    def _lose_replica(self) -> None:
        """An empty disk in the place of the old one."""
        node = self._any()
        if self._may_harm():
            self._harmed = node.id
            node.kill(power=True)
            node.disk.wipe()
            self._after(self._seconds(0.1, 2.0), lambda: None if node.up else node.start())
            self._world.counts["lost"] += 1

    # -- disks ---------------------------------------------------------------------------------------------------

    def _slow_disk(self) -> None:
        node = self._any()
        node.slowness = self._rng.uniform(3, 60)
        self._after(self._seconds(0.5, 4.0), lambda: setattr(node, "slowness", 1.0))

    def _full_disk(self) -> None:
        node = self._any()
        node.disk.full = True
        self._after(self._seconds(0.5, 3.0), lambda: setattr(node.disk, "full", False))

    def _failed_sync(self) -> None:
        """The node must stop; what was not synced is gone, whatever the page cache shows."""
        node = self._any()
        if node.up:
            node.disk.sync_fails = True

    # -- network -------------------------------------------------------------------------------------------------

    def _partition(self) -> None:
        nodes = [node.id for node in self._world.nodes]
        side = {node for node in nodes if self._rng.below(2)}
        self._cut({(a, b) for a in nodes for b in nodes if (a in side) != (b in side)})

    def _one_way(self, node: SimNode) -> None:
        others = [other.id for other in self._world.nodes if other is not node and self._rng.below(3)]
        outwards = self._rng.below(2)
        self._cut({(node.id, other) if outwards else (other, node.id) for other in others})

    def _isolate_leader(self) -> None:
        leader = self._world.leader(GROUPS[self._rng.below(2)])
        if leader is None:
            return
        others = [other.id for other in self._world.nodes if other is not leader]
        cut = {(leader.id, other) for other in others}
        if self._rng.below(3):
            cut |= {(other, leader.id) for other in others}
        self._cut(cut)

    def _succession(self) -> None:
        """Leaders fall one after another, soon after they rose, each with entries that few others have; then all come
        back at about the same time (figure 8 of the paper).
        """
        group = GROUPS[self._rng.below(4) > 0]
        until = self._world.loop.time() + self._rng.uniform(3, 9)

        async def going() -> None:
            fallen: set[NodeId] = set()
            while self._world.loop.time() < until and not self._healing and len(fallen) < 3:
                await asyncio.sleep(self._rng.uniform(0.01, 0.4))
                leader = self._world.leader(group)
                if leader is None or leader.id in fallen:
                    continue
                fallen.add(leader.id)
                if self._rng.below(3) == 0:
                    self._kill(leader, power=bool(self._rng.below(2)), seconds=until - self._world.loop.time())
                else:
                    others = [other.id for other in self._world.nodes if other is not leader]
                    spared = others[self._rng.below(len(others))] if self._rng.below(2) else None
                    cut = {(a, b) for o in others if o != spared for a, b in ((leader.id, o), (o, leader.id))}
                    self._cut(cut, seconds=until - self._world.loop.time())

        self._later(0, going)

    def _cut(self, cut: set[tuple[NodeId, NodeId]], *, seconds: float | None = None) -> None:
        network = self._world.network
        network.cut |= cut
        self._after(self._seconds(0.3, 4.0) if seconds is None else seconds, lambda: network.cut.difference_update(cut))

    def _storm(self) -> None:
        self._world.network.weather = Weather(
            drop=self._rng.uniform(0, 0.3), duplicate=self._rng.uniform(0, 0.3), late=self._rng.uniform(0, 0.3),
            delay_max=self._rng.uniform(0.003, 0.05),
        )  # fmt: skip
        self._after(self._seconds(0.5, 4.0), lambda: setattr(self._world.network, "weather", Weather()))

    # -- the rest ------------------------------------------------------------------------------------------------

    def _skew(self) -> None:
        self._any().clock.skew_ms = self._rng.below(2 * SKEW_MS) - SKEW_MS

    def _compact(self) -> None:
        node = self._any()
        host = node.host
        if host is None:
            return
        for group in GROUPS:
            if host.serves(group):
                self._later(0, lambda group=group: node.run(lambda _: host.compact(group)))  # type: ignore[misc]

    def _transfer(self) -> None:
        group = GROUPS[self._rng.below(2)]
        leader = self._world.leader(group)
        if leader is None or leader.host is None:
            return
        host, to = leader.host, self._any().id if self._rng.below(2) else None
        deadline = self._world.loop.time() + ASKED_SECONDS
        self._later(0, lambda: leader.run(lambda _: host.transfer(group, to, deadline=deadline)))

    # -- tools ---------------------------------------------------------------------------------------------------

    def _may_harm(self) -> bool:
        """Whether everything that was synced anywhere is still there."""
        if self._harmed is not None and all(_whole(self._world, group) for group in GROUPS):
            self._harmed = None
        return self._harmed is None and all(_whole(self._world, group) for group in GROUPS)

    def _any(self) -> SimNode:
        return self._world.nodes[self._rng.below(len(self._world.nodes))]

    def _draw(self, names: list[str]) -> str:
        weights = self._world.plan.faults
        at = self._rng.uniform(0, sum(weights.values()))
        for name in names:
            at -= weights[name]
            if at <= 0:
                return name
        return names[-1]

    def _seconds(self, low: float, high: float) -> float:
        """Mostly short."""
        return low + (high - low) * self._rng.uniform(0, 1) ** 2

    def _after(self, seconds: float, work: Callable[[], object]) -> None:
        self._world.loop.call_later(seconds, work)

    def _later(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        async def going() -> None:
            await asyncio.sleep(seconds)
            try:
                await work()
            except DwError as error:
                self._world.counts[f"refused {error.code}"] += 1
            except asyncio.CancelledError:
                self._world.counts["asked the dead"] += 1

        task = self._world.loop.create_task(going())
        self._jobs[task] = None
        task.add_done_callback(lambda done: self._jobs.pop(done, None))


def _whole(world: World, group: GroupId) -> bool:
    """Every node's replica is a member that works and has what is committed."""
    leader = world.leader(group)
    if leader is None or leader.host is None:
        return False
    status = leader.host.status(group)
    members = status.configuration.voters()
    if {m.node for m in members} != {node.id for node in world.nodes} or status.configuration.is_joint:
        return False
    for member in members:
        host = world.node(member.node).host
        if host is None or not host.serves(group):
            return False
        there = host.status(group)
        if there.replica != member.replica or there.tail_doubt or there.last < status.commit:
            return False
    return True
