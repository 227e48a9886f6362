"""Nodes with metadata in one process: real hosts, databases and state machines; only log and network are twins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dwd.base.errors import OutcomeUnknown, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, ReplicaId
from dwd.meta.client import MetaClient
from dwd.meta.core.control.commands import AddNode, CreateUser, InitialiseCluster
from dwd.meta.core.control.rows import Domain, NodeAddresses, ShardRange
from dwd.meta.core.versions import KNOWN, Versions
from dwd.meta.local import LocalGroups
from dwd.meta.store.databases import Databases
from dwd.raft.core.types import Configuration, Member, MemberRole
from dwd.raft.host import Host
from dwd.raft.options import HostOptions
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.os_files import OsFiles
from dwd.runtime.serial import ThreadLanes
from tests.twins.memory_log import MemoryLogStore
from tests.twins.memory_transport import MemoryNetwork, MemoryTransport
from tests.twins.meta_group import CLUSTER, SHARD

PATIENCE_SECONDS = 30.0
CLOCK = SystemClock()


class DirectPeers:
    """Other nodes of the process; `losing` of the next answers get lost after they took effect."""

    def __init__(self, nodes: dict[NodeId, Node]) -> None:
        self._nodes = nodes
        self.losing = 0

    async def propose(self, node: NodeId, group: GroupId, payload: bytes, *, deadline: float) -> Any:
        outcome = await self._of(node).propose(group, payload, deadline=deadline)
        if self.losing:
            self.losing -= 1
            raise OutcomeUnknown("test.lost", "the answer got lost")
        return outcome

    async def answer(self, node: NodeId, group: GroupId, query: Any, *, deadline: float) -> Any:
        return await self._of(node).answer(group, query, deadline=deadline)

    def leader_changed(self, group: GroupId, leader: NodeId) -> None:
        """Nothing waits here."""

    def _of(self, node: NodeId) -> LocalGroups:
        found = self._nodes.get(node)
        if found is None:
            raise Unavailable("test.down", "the node is down")
        return LocalGroups(found.host, found.databases)


class Node:
    def __init__(
        self,
        number: int,
        nodes: dict[NodeId, Node],
        network: MemoryNetwork,
        root: Path,
        versions: Versions = KNOWN,
    ) -> None:
        self.id = NodeId(number)
        self.databases = Databases(root / f"node-{number}", cluster=CLUSTER, files=OsFiles(), versions=versions)
        self.lanes = ThreadLanes(threads=1, name="test")
        self.host = Host(
            node=self.id,
            log=MemoryLogStore({}),
            transport=MemoryTransport(network, self.id),
            machines=self.databases.open,
            discard_machine=self.databases.discard,
            snapshots=root / f"snapshots-{number}",
            lanes=self.lanes,
            clock=CLOCK,
            rng=SystemRng(),
            options=HostOptions(tick_ms=20),
            on_fatal=lambda error: None,
        )
        self.peers = DirectPeers(nodes)
        self.client = MetaClient(
            node=self.id, host=self.host, databases=self.databases, peers=self.peers, clock=CLOCK, rng=SystemRng()
        )

    async def stop(self) -> None:
        self.client.close()
        await self.host.stop(hand_over=False)
        await self.lanes.close()
        self.databases.close()


def soon() -> float:
    return CLOCK.monotonic() + PATIENCE_SECONDS


def add_node(number: int) -> AddNode:
    return AddNode(
        node=NodeId(number), name=f"n{number}", addresses=NodeAddresses(grpc="", s3="", admin=""),
        domain=Domain(zone=f"z{number % 3}"), sealing_key=b"", sealed_keyring=b"",
    )  # fmt: skip


def configuration(voters: int) -> Configuration:
    return Configuration(
        members=tuple(
            Member(node=NodeId(n), replica=ReplicaId(100 + n), role=MemberRole.VOTER) for n in range(1, voters + 1)
        )
    )


@asynccontextmanager
async def running(
    root: Path,
    count: int,
    *,
    control_voters: int = 0,
    shard_voters: int = 0,
    authority_certificate: bytes = b"",
    sealed_authority_key: bytes = b"",
    versions: Mapping[int, Versions] | None = None,
) -> AsyncIterator[dict[NodeId, Node]]:
    """`count` nodes, the first of which hold the groups; all unless said otherwise. `versions` by number, of binaries
    that are not as this one.
    """
    nodes: dict[NodeId, Node] = {}
    network = MemoryNetwork()
    try:
        for number in range(1, count + 1):
            node = nodes[NodeId(number)] = Node(number, nodes, network, root, (versions or {}).get(number, KNOWN))
            await node.host.start()
        for group, voters in ((CONTROL_GROUP, control_voters or count), (SHARD, shard_voters or count)):
            for number in range(1, voters + 1):
                await nodes[NodeId(number)].host.bootstrap(group, configuration(voters))
        client = nodes[NodeId(1)].client
        ranges = (ShardRange(start=b"", group=SHARD),)
        await client.control(
            InitialiseCluster(
                cluster=CLUSTER, name="c", authority_certificate=authority_certificate,
                sealed_authority_key=sealed_authority_key, keyring_version=1, shards=ranges,
            ),
            deadline=soon(),
        )  # fmt: skip
        for number in range(1, count + 1):
            await client.control(add_node(number), deadline=soon())
        await client.control(CreateUser(name="u"), deadline=soon())
        holders = [nodes[NodeId(number)] for number in range(1, (control_voters or count) + 1)]
        await until(lambda: all(_knows_all(node) for node in holders))
        yield nodes
    finally:
        for node in nodes.values():
            await node.stop()


def _knows_all(node: Node) -> bool:
    """Whether its copy of control has come as far as the last command above."""
    try:
        return node.client.view.user("u") is not None
    except Unavailable:
        return False


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - waits for what another loop turn does
            await asyncio.sleep(0.01)
