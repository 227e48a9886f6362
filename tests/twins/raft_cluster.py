"""Hosts in one process: real loops and cores, twins for log, machine and network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from dwd.base.errors import DwError, Unavailable
from dwd.base.ids import GroupId, NodeId, ReplicaId
from dwd.raft.core.types import Configuration, Member, MemberRole, Role
from dwd.raft.host import Host
from dwd.raft.options import HostOptions
from dwd.raft.ports import Applied, RecoveredLog
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.serial import ThreadLanes
from dwd.runtime.tasks import Tasks
from dwd.runtime.testing_clock import SkewedClock
from tests.twins.dict_machine import DictDisk, DictMachine
from tests.twins.memory_log import MemoryLogStore
from tests.twins.memory_transport import MemoryNetwork, MemoryTransport

GROUP = GroupId(1)
PATIENCE_SECONDS = 30.0
T = TypeVar("T")
FAST = HostOptions(tick_ms=20)


def configuration(nodes: Iterable[int]) -> Configuration:
    """Replica 100 + n on node n, all voters."""
    return Configuration(
        members=tuple(Member(node=NodeId(n), replica=ReplicaId(100 + n), role=MemberRole.VOTER) for n in nodes)
    )


class TestNode:
    """One node and what its disk keeps while it is down."""

    __test__ = False

    def __init__(self, number: int, cluster: TestCluster) -> None:
        self.id = NodeId(number)
        self.cluster = cluster
        self.durable: dict[GroupId, RecoveredLog] = {}
        self.disks: dict[GroupId, DictDisk] = {}
        self.machines: dict[GroupId, DictMachine] = {}
        self.fatal: list[BaseException] = []
        self.clock = SkewedClock(SystemClock())
        self.host: Host
        self.lanes: ThreadLanes
        self.log: MemoryLogStore
        self.transport: MemoryTransport

    async def start(self) -> None:
        self.log = MemoryLogStore(self.durable)
        self.transport = MemoryTransport(self.cluster.network, self.id)
        self.lanes = ThreadLanes(threads=2, name="test")
        self.host = Host(
            node=self.id,
            log=self.log,
            transport=self.transport,
            machines=self._machine,
            discard_machine=lambda group: self.disks.pop(group, None) and None,
            snapshots=self.cluster.directory / f"node-{self.id}",
            lanes=self.lanes,
            clock=self.clock,
            clocks=MemoryClocks(self.cluster, self.id),
            rng=SystemRng(),
            options=self.cluster.options,
            on_fatal=self.fatal.append,
        )
        await self.host.start()

    async def stop(self, *, hand_over: bool = False) -> None:
        await self.host.stop(hand_over=hand_over)
        await self.lanes.close()

    async def crash(self) -> None:
        """Dies at once for its peers; what was durable stays."""
        self.transport.crash()
        await self.stop()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def value(self, key: str, group: GroupId = GROUP) -> str | None:
        return self.disks[group].values.get(key)

    def _machine(self, group: GroupId) -> DictMachine:
        disk = self.disks.setdefault(group, DictDisk())
        self.machines[group] = DictMachine(disk, padding=self.cluster.padding)
        return self.machines[group]


class MemoryClocks:
    """The clocks of the other nodes, where the network lets through. Implements `PeerClocks`."""

    def __init__(self, cluster: TestCluster, node: NodeId) -> None:
        self._cluster = cluster
        self._node = node

    async def unix_ms(self, node: NodeId, *, seconds: float) -> int:
        network = self._cluster.network
        if not network.reachable(self._node, node) or not network.reachable(node, self._node):
            raise Unavailable("test.cut", "no way there")
        return self._cluster.node(node).clock.unix_ms()


class TestCluster:
    """`async with`: starts `count` nodes; `voters` of them get GROUP with all of these as voters."""

    __test__ = False

    def __init__(
        self,
        directory: Path,
        count: int,
        *,
        voters: int | None = None,
        options: HostOptions = FAST,
        padding: int = 0,
        groups: tuple[GroupId, ...] = (GROUP,),
    ) -> None:
        self.directory = directory
        self.options = options
        self.padding = padding
        self.network = MemoryNetwork()
        self.nodes = [TestNode(number, self) for number in range(1, count + 1)]
        self._voters = self.nodes[: count if voters is None else voters]
        self._groups = groups
        self._tasks = Tasks("test", lambda name, error: None)

    async def __aenter__(self) -> Self:
        for node in self.nodes:
            await node.start()
        first = configuration(node.id for node in self._voters)
        for group in self._groups:
            for node in self._voters:
                await node.host.bootstrap(group, first)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.close()
        for node in self.nodes:
            await node.stop()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A caller of its own; whoever awaits the task hears of its failure."""
        return self._tasks.spawn(work, name="caller")

    def node(self, number: int) -> TestNode:
        return self.nodes[number - 1]

    def leaders(self, group: GroupId = GROUP) -> list[TestNode]:
        return [
            node for node in self.nodes if group in node.host.groups() and node.host.status(group).role is Role.LEADER
        ]

    async def leader(self, group: GroupId = GROUP, *, other_than: TestNode | None = None) -> TestNode:
        """Once exactly one node (but `other_than`) leads and has told a majority."""
        await until(lambda: any(n is not other_than for n in self.leaders(group)), "a leader")
        return next(n for n in self.leaders(group) if n is not other_than)

    async def followers(self, group: GroupId = GROUP) -> list[TestNode]:
        leader = await self.leader(group)
        return [node for node in self._voters if node is not leader]

    async def put(self, key: str, value: str, group: GroupId = GROUP) -> Applied:
        """As a client would: asks around until a leader takes it."""
        limit = soon(PATIENCE_SECONDS)
        while True:
            leader = await self.leader(group)
            try:
                return await leader.host.propose(group, f"{key}={value}".encode(), deadline=soon())
            except DwError as error:
                if not error.retryable or asyncio.get_running_loop().time() > limit:
                    raise
                await asyncio.sleep(0.01)


def soon(seconds: float = 20.0) -> float:
    """A deadline. The system's monotonic clock is the event loop's."""
    return SystemClock().monotonic() + seconds


async def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition with a deadline."""
    limit = soon(seconds)
    while not condition():
        assert SystemClock().monotonic() < limit, f"waited in vain for {what}"
        await asyncio.sleep(0.005)
