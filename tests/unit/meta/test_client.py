"""Clients over real hosts, databases and state machines in one process; only log and network are twins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dwd.base.errors import Conflict, DwError, NotFound, OutcomeUnknown, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, ReplicaId
from dwd.meta.client import MetaClient
from dwd.meta.core.control.commands import AddNode, CreateBucket, CreateUser, InitialiseCluster
from dwd.meta.core.control.rows import BucketState, Domain, NodeAddresses, ShardRange
from dwd.meta.core.shard.commands import CreateUpload, DeleteObject, PutObject
from dwd.meta.core.shard.queries import GetCounts, GetObject, HeadObject, ListObjects
from dwd.meta.local import LocalGroups
from dwd.meta.store.databases import Databases
from dwd.meta.workers.membership import MembershipWorker
from dwd.raft.core.types import Configuration, Member, MemberRole
from dwd.raft.host import Host
from dwd.raft.options import HostOptions
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.os_files import OsFiles
from tests.twins.memory_log import MemoryLogStore
from tests.twins.memory_transport import MemoryNetwork, MemoryTransport
from tests.twins.meta_group import CLUSTER, SHARD

PATIENCE_SECONDS = 10.0
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
    def __init__(self, number: int, nodes: dict[NodeId, Node], network: MemoryNetwork, root: Path) -> None:
        self.id = NodeId(number)
        self.databases = Databases(root / f"node-{number}", cluster=CLUSTER, files=OsFiles())
        self.host = Host(
            node=self.id,
            log=MemoryLogStore({}),
            transport=MemoryTransport(network, self.id),
            machines=self.databases.open,
            discard_machine=self.databases.discard,
            snapshots=root / f"snapshots-{number}",
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
        await self.host.stop()
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
    root: Path, count: int, *, control_voters: int = 0, shard_voters: int = 0
) -> AsyncIterator[dict[NodeId, Node]]:
    """`count` nodes, the first of which hold the groups; all unless said otherwise."""
    nodes: dict[NodeId, Node] = {}
    network = MemoryNetwork()
    try:
        for number in range(1, count + 1):
            node = nodes[NodeId(number)] = Node(number, nodes, network, root)
            await node.host.start()
        for group, voters in ((CONTROL_GROUP, control_voters or count), (SHARD, shard_voters or count)):
            for number in range(1, voters + 1):
                await nodes[NodeId(number)].host.bootstrap(group, configuration(voters))
        client = nodes[NodeId(1)].client
        ranges = (ShardRange(start=b"", group=SHARD),)
        await client.control(
            InitialiseCluster(
                cluster=CLUSTER, name="c", authority_certificate=b"", sealed_authority_key=b"", keyring_version=1,
                shards=ranges,
            ),
            deadline=soon(),
        )  # fmt: skip
        for number in range(1, count + 1):
            await client.control(add_node(number), deadline=soon())
        await client.control(CreateUser(name="u"), deadline=soon())
        yield nodes
    finally:
        for node in nodes.values():
            await node.stop()


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - waits for what another loop turn does
            await asyncio.sleep(0.01)


def put(key: str, **changes: Any) -> PutObject:
    facts: dict[str, Any] = {"bucket": "b", "bucket_epoch": 1, "size": 1, "etag": "e", "inline": b"x"}
    return PutObject(key=key, **{**facts, **changes})


async def test_write_is_seen_by_every_node_when_acknowledged(tmp_path: Path) -> None:
    async with running(tmp_path, 3) as nodes:
        for node in nodes.values():
            await until(
                lambda view=node.client.view: (view.topology_or_none() or 0) and len(view.topology().nodes) == 3
            )
        for node in nodes.values():
            await node.client.keyed(put(f"from-{node.id}"), deadline=soon())
            for reader in nodes.values():
                answer = await reader.client.read(GetObject(bucket="b", key=f"from-{node.id}"), deadline=soon())
                assert answer.inline == b"x"
        page = await nodes[NodeId(2)].client.list_objects(ListObjects(bucket="b"), deadline=soon())
        assert [o.key for o in page.objects] == ["from-1", "from-2", "from-3"]


async def test_command_takes_effect_once_when_its_answers_get_lost(tmp_path: Path) -> None:
    async with running(tmp_path, 3) as nodes:
        await until(lambda: any(n.client.leads(SHARD) for n in nodes.values()))
        follower = next(n for n in nodes.values() if not n.client.leads(SHARD))
        await until(lambda: (follower.client.view.topology_or_none() or 0) and follower.client.shards())
        await follower.client.keyed(put("first"), deadline=soon())
        follower.peers.losing = 2
        create = CreateUpload(bucket="b", key="k", bucket_epoch=1, upload="a" * 32)
        await follower.client.keyed(create, deadline=soon())
        with pytest.raises(DwError, match="taken"):
            await follower.client.keyed(create, deadline=soon())


async def test_client_moves_on_when_the_leader_dies(tmp_path: Path) -> None:
    async with running(tmp_path, 3) as nodes:
        await until(lambda: any(n.client.leads(SHARD) for n in nodes.values()))
        leader = next(n for n in nodes.values() if n.client.leads(SHARD))
        other = next(n for n in nodes.values() if n is not leader)
        await until(lambda: (other.client.view.topology_or_none() or 0) and other.client.shards())
        await other.client.keyed(put("before"), deadline=soon())
        del nodes[leader.id]
        await leader.stop()
        await other.client.keyed(put("after"), deadline=soon())
        for key in ("before", "after"):
            assert (await other.client.read(HeadObject(bucket="b", key=key), deadline=soon())).object is not None


async def test_node_without_a_replica_is_served_by_members(tmp_path: Path) -> None:
    async with running(tmp_path, 2, shard_voters=1) as nodes:
        outsider = nodes[NodeId(2)].client
        await until(lambda: (outsider.view.topology_or_none() or 0) and len(outsider.view.topology().nodes) == 2)
        await outsider.keyed(put("k"), deadline=soon())
        assert (await outsider.read_group(SHARD, GetCounts(), deadline=soon())).objects == 1


async def test_bucket_is_deleted_only_when_empty(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as nodes:
        client = nodes[NodeId(1)].client
        made = await client.control(CreateBucket(name="b", owner="u", profile="none"), deadline=soon())
        await client.keyed(put("k", bucket_epoch=made.count), deadline=soon())
        with pytest.raises(Conflict) as refused:
            await client.delete_bucket("b", deadline=soon())
        assert refused.value.code == "objects.bucket_not_empty"
        row = client.view.bucket("b")
        assert row is not None
        assert (row.state, row.epoch > made.count) == (BucketState.ACTIVE, True)
        with pytest.raises(Conflict):
            await client.keyed(put("k", bucket_epoch=made.count), deadline=soon())
        await client.keyed(DeleteObject(bucket="b", key="k", bucket_epoch=row.epoch), deadline=soon())
        create = CreateUpload(bucket="b", key="k", bucket_epoch=row.epoch, upload="a" * 32)
        await client.keyed(create, deadline=soon())
        await client.delete_bucket("b", deadline=soon())
        assert client.view.bucket("b") is None
        with pytest.raises(NotFound):
            await client.delete_bucket("b", deadline=soon())
        again = await client.control(CreateBucket(name="b", owner="u", profile="none"), deadline=soon())
        await client.keyed(put("k", bucket_epoch=again.count), deadline=soon())


async def test_groups_grow_to_their_voters_when_nodes_join(tmp_path: Path) -> None:
    async with running(tmp_path, 4, control_voters=1, shard_voters=1) as nodes:
        first = nodes[NodeId(1)]

        async def create(node: NodeId, group: GroupId, replica: ReplicaId) -> None:
            await nodes[node].host.create_replica(group, replica)

        workers = [
            MembershipWorker(
                node=n.id, host=n.host, view=n.client.view, create_replica=create, clock=CLOCK, rng=SystemRng()
            )
            for n in nodes.values()
        ]
        three, listener = [MemberRole.VOTER] * 3, [MemberRole.LEARNER]

        def roles(group: GroupId) -> list[MemberRole]:
            return sorted(m.role for m in first.host.status(group).configuration.members)

        async with asyncio.timeout(PATIENCE_SECONDS):
            while (roles(CONTROL_GROUP), roles(SHARD)) != (three + listener, three):
                for worker in workers:
                    await worker.work()
                await asyncio.sleep(0.01)
        await until(lambda: (nodes[NodeId(4)].client.view.topology_or_none() or 0) and nodes[NodeId(4)].client.shards())
        await nodes[NodeId(4)].client.keyed(put("k"), deadline=soon())
