"""A cluster in one process, driven by one seed: nodes, network, clients, faults and checkers.

`run(plan)` starts it, lets clients and faults at it, heals everything, and says what was found. Everything that happens
is decided by the seed: one loop of virtual time, no threads, and random numbers from streams of that seed.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwd.base.errors import DwError
from dwd.base.ids import CONTROL_GROUP, GroupId, LogIndex, NodeId, ReplicaId
from dwd.meta.core.control.commands import InitialiseCluster
from dwd.meta.core.control.rows import ShardRange
from dwd.raft.core.types import Configuration, Member, MemberRole
from tests.linearizability.checker import check
from tests.linearizability.events import Event
from tests.sim import settle
from tests.sim.checkers.acknowledged import Acknowledged
from tests.sim.checkers.commit_rule import CommitRule
from tests.sim.checkers.durability import Durability
from tests.sim.checkers.election_safety import ElectionSafety
from tests.sim.checkers.exactly_once import ExactlyOnce
from tests.sim.checkers.leader_completeness import LeaderCompleteness
from tests.sim.checkers.log_matching import LogMatching
from tests.sim.checkers.one_change import OneChange
from tests.sim.checkers.state_machines import StateMachines
from tests.sim.clients import Crowd
from tests.sim.disk import PowerLost
from tests.sim.nemesis import Nemesis
from tests.sim.network import Network
from tests.sim.plan import Plan
from tests.sim.process import SimNode
from tests.sim.watching import Violation, Watch, small_frames, watched_cores
from tests.twins.meta_group import CLUSTER, SHARD
from tests.twins.meta_nodes import add_node
from tests.twins.virtual_time import LIFE, SeededRng, VirtualLoop, bury

START_SECONDS = 60.0
STEP_SECONDS = 0.05
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to. `digest` says in what order everything happened: equal for equal seeds."""

    seed: int
    violations: tuple[Violation, ...]
    sim_seconds: float
    wall_seconds: float
    counts: Counter[str]
    digest: int


class World:
    def __init__(self, plan: Plan, loop: VirtualLoop, root: Path) -> None:
        self.plan = plan
        self.loop = loop
        self.root = root
        self.rng = SeededRng(plan.seed)
        self.workload_rng = SeededRng(self.rng.bits(60))
        self.counts: Counter[str] = Counter()
        self.history: list[Event] = []
        self.under_way: dict[Event, None] = {}
        """Changes that nobody knows the outcome of yet: of the last ones nobody ever will."""
        self.busy = False
        self.watch = Watch(loop.time)
        machines = StateMachines(self.watch)
        self.watch.use(
            [
                ElectionSafety(self.watch),
                LogMatching(self.watch),
                LeaderCompleteness(self.watch),
                machines,
                ExactlyOnce(self.watch),
                Durability(self.watch),
                CommitRule(self.watch),
                OneChange(self.watch),
                Acknowledged(self.watch, machines),
            ]
        )
        self.network = Network(loop, SeededRng(self.rng.bits(60)))
        self.network.watch = self.watch.sending
        timing = SeededRng(self.rng.bits(60))
        loop.work_seconds = lambda: timing.uniform(0.0001, 0.001)
        self.nodes = [SimNode(self, number) for number in range(1, plan.nodes + 1)]
        self.nemesis = Nemesis(self, SeededRng(self.rng.bits(60)))

    # -- what nodes tell ------------------------------------------------------------------------------------------

    def power_lost(self, node: SimNode) -> None:
        """In the middle of a write: the rest follows when that has unwound."""
        self.loop.call_soon(lambda: self.nemesis.fell(node, power=True), context=self._context)

    def uncaught(self, _loop: object, context: dict[str, Any]) -> None:
        """An exception that nobody caught, of a process that lives."""
        error, life = context.get("exception"), LIFE.get()
        if error is not None and not isinstance(error, PowerLost | DwError) and (life is None or not life.over):
            self.watch.report("unexpected", f"{context.get('message')}: {error!r}")

    def gave_up(self, node: SimNode, why: str) -> None:
        """It stopped by itself."""
        self.counts["gave_up"] += 1
        if not self.nemesis.excuses(node):
            self.watch.report("health", f"node {node.id} gave up: {why}")
        self.loop.call_soon(lambda: self.nemesis.fell(node, power=True), context=self._context)

    def acknowledged(self, key: str, index: LogIndex, value: str) -> None:
        del key
        self.watch.acknowledged(SHARD, index, value)

    def broke_off(self, error: Exception) -> None:
        """The run ended before its time: a cluster that never came up, or a mistake of the simulator's own."""
        self.ended = self.loop.time()
        self._look_for_broken_groups()
        if not self.watch.violations:
            self.watch.report("unexpected", "the run broke off: " + "".join(traceback.format_exception(error)[-3:]))

    # -- the run --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._context = copy_context()
        await self._begin()
        self.began = self.loop.time()
        self.busy = True
        crowd = Crowd(self)
        tasks = [self.loop.create_task(crowd.run()), self.loop.create_task(self.nemesis.run())]
        until, steps = self.began + self.plan.seconds, 0
        while self.loop.time() < until and not self.watch.violations:
            await asyncio.sleep(STEP_SECONDS)
            steps += 1
            if steps % 10 == 0:
                self._look_for_broken_groups()
            for task in tasks:
                if task.done() and task.exception() is not None:
                    raise task.exception()  # type: ignore[misc]
        if not self.watch.violations:
            await self.nemesis.heal()
            await settle.until_settled(self)
        self.busy = False
        if not self.watch.violations:
            await settle.read_everywhere(self, crowd.clients[0])
        if not self.watch.violations:
            settle.compare_databases(self)
            for violation in check([*self.history, *self.under_way]):
                self.watch.report("linearizability", str(violation))
        self.ended = self.loop.time()
        for task in tasks:
            task.cancel()

    async def _begin(self) -> None:
        for node in self.nodes:
            node.start()
        await self._until(lambda: all(node.ready for node in self.nodes))
        first = Configuration(
            members=tuple(
                Member(node=node.id, replica=ReplicaId(100 + node.id), role=MemberRole.VOTER) for node in self.nodes
            )
        )
        for group in (CONTROL_GROUP, SHARD):
            for node in self.nodes:
                await node.run(lambda _, node=node, group=group: node.host.bootstrap(group, first))  # type: ignore[misc]
        ranges = (ShardRange(start=b"", group=SHARD),)
        commands: list[Any] = [
            InitialiseCluster(
                cluster=CLUSTER, name="c", authority_certificate=b"", sealed_authority_key=b"", keyring_version=1,
                shards=ranges,
            ),
            *(add_node(node.id) for node in self.nodes),
        ]  # fmt: skip
        for command in commands:
            deadline = self.loop.time() + START_SECONDS
            await self.nodes[0].run(lambda c, command=command, deadline=deadline: c.control(command, deadline=deadline))  # type: ignore[misc]

    def _look_for_broken_groups(self) -> None:
        """No disk here rots: nothing may be found damaged, and no invariant broken."""
        for node in self.nodes:
            host = node.host
            for group in (CONTROL_GROUP, SHARD) if host is not None else ():
                if group not in host.groups():  # type: ignore[union-attr]
                    continue
                status = host.status(group)  # type: ignore[union-attr]
                if status.failed is not None or status.quarantined is not None:
                    why = status.failed or status.quarantined
                    self.watch.report("health", f"group {group} stopped on node {node.id}: {why}")

    async def _until(self, condition: Any) -> None:
        deadline = self.loop.time() + START_SECONDS
        while not condition():
            if self.loop.time() > deadline or self.watch.violations:
                raise AssertionError(f"the world does not start: {self.watch.violations}")
            await asyncio.sleep(STEP_SECONDS)

    def leader(self, group: GroupId) -> SimNode | None:
        """Of the latest term."""
        leading = [node for node in self.nodes if node.leads(group)]
        return max(leading, key=lambda n: n.host.status(group).term, default=None)  # type: ignore[union-attr]

    def node(self, node: NodeId) -> SimNode:
        return self.nodes[node - 1]

    def close(self) -> None:
        for node in self.nodes:
            if node.endpoint is not None:
                node.endpoint.life.over = True
            node.disk.close()


def run(plan: Plan) -> Outcome:
    """One world from start to end."""
    _allow_files()
    base = MEMORY if MEMORY.is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="dwd-sim-", dir=base))
    loop = VirtualLoop()
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    began, used = time.perf_counter(), time.process_time()
    world = None
    gc.collect()
    gc.disable()
    caught = warnings.catch_warnings()
    caught.__enter__()
    warnings.simplefilter("ignore", RuntimeWarning)  # coroutines of processes that died before they began
    try:
        asyncio.set_event_loop(loop)
        world = World(plan, loop, root)
        loop.set_exception_handler(world.uncaught)
        with watched_cores(world.watch), small_frames():
            try:
                loop.run_until_complete(world.run())
            except Exception as error:  # noqa: BLE001 - a run that breaks off is a find like any other: with its seed
                world.broke_off(error)
        wall = time.perf_counter() - began
        world.counts["callbacks"] = loop.callbacks_run
        world.counts["messages"] = world.network.sent
        world.counts["cpu_ms"] = int((time.process_time() - used) * 1000)
        return Outcome(
            seed=plan.seed, violations=tuple(world.watch.violations), sim_seconds=world.ended, wall_seconds=wall,
            counts=world.counts, digest=hash((loop.callbacks_run, world.network.sent, world.network.rng.bits(60))),
        )  # fmt: skip
    finally:
        if world is not None:
            world.close()
        bury(loop)
        asyncio.set_event_loop(None)
        gc.enable()
        gc.collect()
        sys.unraisablehook = hook
        caught.__exit__(None, None, None)
        shutil.rmtree(root, ignore_errors=True)


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8192 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8192, hard))
