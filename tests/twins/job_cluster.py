"""Nodes that run jobs, in one process of virtual time: real runners, real state machines in memory, no Raft.

A proposal is carried out a moment after it was sent and answered a moment later, in one order for all; a node may die
or stand still at any of these moments. Everything accepted is kept in `log`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

import apsw

from dwd.base.errors import DwError, Unavailable
from dwd.base.ids import CONTROL_GROUP, ClusterId, GroupId, JobId, LogIndex, NodeId, Stamp, stamp_of
from dwd.jobs.kinds import JobKind
from dwd.jobs.leased import JobOptions
from dwd.jobs.runner import JobRunner
from dwd.meta.core.apply import Command, ControlCommands, Engine, Envelope, RegisterSession, ShardCommands
from dwd.meta.core.control import read, read_jobs
from dwd.meta.core.control.commands import AddNode, SetNodeLiveness
from dwd.meta.core.control.job_commands import CreateJob, FinishJob, ReportJob
from dwd.meta.core.control.job_rows import JobPlan, JobRow, arguments_of, plan_hash
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import Domain, Liveness, NodeAddresses
from dwd.meta.core.fencing import Fence
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.answer import answer
from dwd.meta.core.shard.queries import GetCounts
from dwd.meta.core.tx import At
from dwd.meta.core.versions import OLDEST
from dwd.meta.store.database import SqliteTx, create
from dwd.runtime.tasks import Tasks
from tests.twins.virtual_time import LIFE, Life, SeededRng, VirtualClock, VirtualLoop

OPTIONS = JobOptions(report=0.0)
"""Every report is a proposal: so there is a moment to die at."""
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A command that was carried out."""

    node: NodeId
    group: GroupId
    command: Command
    fence: Fence | None
    index: int


class MemoryMachine:
    """One group's state machine, in memory."""

    def __init__(self, group: GroupId) -> None:
        connection = apsw.Connection(":memory:")
        create(connection, cluster=ClusterId("ab" * 16), group=group, version=OLDEST)
        self.tx = SqliteTx(connection)
        self.commands = ControlCommands(self.tx) if group == CONTROL_GROUP else ShardCommands(self.tx)
        self._engine = Engine(self.tx, self.commands, lambda _definition: None, lambda _version: None)
        self._index = 0
        self._topology: tuple[int, Topology] | None = None
        self._sequence = 0
        self.send(RegisterSession(), None, unix_ms=0)

    def topology(self) -> Topology:
        """Of control; read once a command."""
        if self._topology is None or self._topology[0] != self._index:
            self._topology = (self._index, read.topology(self.tx))
        return self._topology[1]

    def send(self, command: Command, fence: Fence | None, *, unix_ms: int) -> Receipt:
        """Raises what the command earned."""
        self._index += 1
        self._sequence += 1
        envelope = Envelope(
            session=1,
            sequence=self._sequence,
            lowest=self._sequence,
            version=OLDEST,
            command=command,
            fence=fence,
        )
        at = At(index=LogIndex(self._index), stamp=Stamp(stamp_of(unix_ms) + self._index % 1000))
        outcome = self._engine.apply(envelope, at)
        self._engine.flush()
        if isinstance(outcome, DwError):
            raise outcome
        return outcome


Hook = Callable[["JobNode", Command, str], None]
"""Called with "before" a proposal takes effect and "after" it: may pause or kill the node, or raise."""


class JobCluster:
    """On the running VirtualLoop."""

    def __init__(
        self,
        kinds: Callable[[JobNode], Sequence[JobKind]],
        *,
        nodes: int = 3,
        shards: int = 2,
        options: JobOptions = OPTIONS,
        seed: int = 0,
    ) -> None:
        self.clock = VirtualClock()
        self.rng = SeededRng(seed)
        self.options = options
        self.machines = {GroupId(group): MemoryMachine(GroupId(group)) for group in range(shards + 1)}
        self.log: list[Accepted] = []
        self.refused: list[tuple[NodeId, Command, DwError]] = []
        self.hook: Hook | None = None
        self.cut_off: set[NodeId] = set()
        """Nodes whose proposals do not get through."""
        self._changed: list[Callable[[], None]] = []
        loop: Any = asyncio.get_running_loop()
        self.loop: VirtualLoop = loop
        self.nodes: dict[NodeId, JobNode] = {}
        for number in range(1, nodes + 1):
            node = NodeId(number)
            self.apply(node, CONTROL_GROUP, _admission(node), None)
            self.nodes[node] = JobNode(self, node)
            self.nodes[node].start(kinds(self.nodes[node]))

    def apply(self, node: NodeId, group: GroupId, command: Command, fence: Fence | None) -> Receipt:
        try:
            receipt = self.machines[group].send(command, fence, unix_ms=self.clock.unix_ms())
        except DwError as error:
            self.refused.append((node, command, error))
            raise
        self.log.append(Accepted(node=node, group=group, command=command, fence=fence, index=receipt.index))
        return receipt

    def create(self, kind: str, arguments: dict[str, str], plan: JobPlan) -> JobId:
        """A job as an operator makes one."""
        given = arguments_of(arguments)
        command = CreateJob(
            kind=kind,
            arguments=given,
            plan=plan,
            plan_hash=plan_hash(kind, given, plan),
            asked_by="test",
        )
        return JobId(self.apply(NodeId(0), CONTROL_GROUP, command, None).count)

    def job(self, job: JobId) -> JobRow:
        found = read_jobs.job(self.machines[CONTROL_GROUP].tx, job).job
        if found is None:
            raise LookupError(job)
        return found

    async def over(self, job: JobId, *, seconds: float = 3_600.0) -> JobRow:
        """The job once it is over. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not self.job(job).over:  # noqa: ASYNC110 - virtual time: nothing is polled while nothing happens
                await asyncio.sleep(POLL_SECONDS)
        return self.job(job)

    def kill(self, node: NodeId) -> None:
        self.nodes[node].life.over = True
        self.judge(node, Liveness.DOWN)

    def pause(self, node: NodeId, seconds: float) -> None:
        """It stands still, then goes on as if nothing had been."""
        life = self.nodes[node].life
        if life.over or life.paused is not None:
            return
        self.loop.pause(life)
        self.loop.call_later(seconds, self.loop.resume, life, context=Context())

    def judge(self, node: NodeId, liveness: Liveness) -> None:
        self.apply(NodeId(0), CONTROL_GROUP, SetNodeLiveness(node=node, liveness=liveness), None)

    def finishes(self, job: JobId) -> list[FinishJob]:
        """How often the job ended."""
        return [a.command for a in self.log if isinstance(a.command, FinishJob) and a.command.job == job]

    def check_order(self, job: JobId) -> None:
        """Nothing of an older lease took effect beside or after a newer one, in any group."""
        newest: dict[GroupId, int] = {}
        for accepted in self.log:
            held = accepted.fence
            if isinstance(accepted.command, ReportJob | FinishJob):
                held = Fence(job=accepted.command.job, epoch=accepted.command.epoch)
            if held is not None and held.job == job:
                assert held.epoch >= newest.get(accepted.group, 0), accepted
                newest[accepted.group] = held.epoch


class JobNode:
    """One node: `dwd.jobs.ports.JobMeta` for whatever runs on it, and its runner."""

    def __init__(self, cluster: JobCluster, node: NodeId) -> None:
        self.cluster = cluster
        self.id = node
        self.life = Life(f"n{node}")
        self.clock = cluster.clock
        self.rng = SeededRng(int(node))
        self.runner: JobRunner

    def start(self, kinds: Sequence[JobKind]) -> None:
        tasks = Tasks(f"n{self.id}", lambda _name, error: self._failed(error))
        self.runner = JobRunner(
            node=self.id,
            meta=self,
            kinds=kinds,
            tasks=tasks,
            clock=self.clock,
            rng=self.rng,
            options=self.cluster.options,
        )
        self.failures: list[BaseException] = []
        context = copy_context()
        context.run(LIFE.set, self.life)
        self.task = context.run(tasks.spawn, self._loop(), name="runner")
        self.tasks = tasks

    @property
    def view(self) -> JobNode:
        return self

    def live_jobs(self) -> tuple[JobRow, ...]:
        return read_jobs.live_jobs(self.cluster.machines[CONTROL_GROUP].tx)

    def job(self, job: JobId) -> JobRow | None:
        return read_jobs.job(self.cluster.machines[CONTROL_GROUP].tx, job).job

    def topology(self) -> Topology:
        return self.cluster.machines[CONTROL_GROUP].topology()

    def watch(self, _callback: Callable[[], None], _parts: object) -> Callable[[], None]:
        return lambda: None

    async def control(self, command: Any, *, deadline: float, fence: Fence | None = None) -> Receipt:
        return await self._propose(CONTROL_GROUP, command, deadline, fence)

    async def shard(self, group: GroupId, command: Any, *, deadline: float, fence: Fence | None = None) -> Receipt:
        return await self._propose(group, command, deadline, fence)

    async def read(self, query: Any, *, deadline: float) -> Any:
        await self._travel()
        return read.answer(self.cluster.machines[CONTROL_GROUP].tx, query)

    async def read_group(self, group: GroupId, query: Any, *, deadline: float) -> Any:
        await self._travel()
        return answer(self.cluster.machines[group].tx, query)

    async def counts(self, group: GroupId, *, deadline: float) -> Any:
        return await self.read_group(group, GetCounts(), deadline=deadline)

    def leads(self, group: GroupId) -> bool:
        return int(group) % len(self.cluster.nodes) + 1 == self.id

    def shards(self) -> tuple[GroupId, ...]:
        return tuple(group for group in self.cluster.machines if group != CONTROL_GROUP)

    def holders(self, _bucket: str) -> tuple[GroupId, ...]:
        return self.shards()

    async def _propose(self, group: GroupId, command: Command, deadline: float, fence: Fence | None) -> Receipt:
        self._hook(command, "before")
        await self._travel()
        if self.id in self.cluster.cut_off:
            await asyncio.sleep(max(0.0, deadline - self.clock.monotonic()))
            raise Unavailable("test.cut_off", "no leader answers")
        try:
            receipt = self.cluster.apply(self.id, group, command, fence)
        finally:
            self._hook(command, "after")
            await self._travel()
        return receipt

    def _hook(self, command: Command, when: str) -> None:
        if self.cluster.hook is not None:
            self.cluster.hook(self, command, when)

    async def _travel(self) -> None:
        await asyncio.sleep(self.cluster.rng.uniform(0.0, 0.02))

    async def _loop(self) -> None:
        while True:
            with suppress(Unavailable):
                _ = await self.runner.work()
            await asyncio.sleep(self.runner.idle_seconds)

    def _failed(self, error: BaseException) -> None:
        self.failures.append(error)


def _admission(node: NodeId) -> AddNode:
    return AddNode(
        node=node,
        name=f"n{node}",
        addresses=NodeAddresses(grpc="", s3="", admin=""),
        domain=Domain(),
        sealing_key=b"k",
        sealed_keyring=b"",
    )
