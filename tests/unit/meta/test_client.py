"""Clients over real hosts, databases and state machines in one process; only log and network are twins."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dwd.base.errors import Conflict, DwError, NotFound, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, ReplicaId
from dwd.meta.core.control.commands import CreateBucket
from dwd.meta.core.control.rows import BucketState
from dwd.meta.core.shard.commands import CreateUpload, DeleteObject, PutObject
from dwd.meta.core.shard.queries import GetCounts, GetObject, HeadObject, ListObjects, ListUploads
from dwd.meta.workers.membership import MembershipWorker
from dwd.raft.core.types import MemberRole
from dwd.runtime.clock import SystemRng
from tests.twins.memory_transport import MemoryNetwork
from tests.twins.meta_group import SHARD
from tests.twins.meta_nodes import CLOCK, PATIENCE_SECONDS, Node, configuration, running, soon, until


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


async def test_listing_is_refused_when_the_copy_of_control_knows_of_no_shard(tmp_path: Path) -> None:
    """As right after a start, before the log is applied: a page of nothing would say that the bucket is empty."""
    nodes: dict[NodeId, Node] = {}
    node = nodes[NodeId(1)] = Node(1, nodes, MemoryNetwork(), tmp_path)
    await node.host.start()
    await node.host.bootstrap(CONTROL_GROUP, configuration(1))
    await until(lambda: node.client.leads(CONTROL_GROUP))
    with pytest.raises(Unavailable, match="which shards"):
        await node.client.list_objects(ListObjects(bucket="b"), deadline=soon())
    with pytest.raises(Unavailable, match="which shards"):
        await node.client.list_uploads(ListUploads(bucket="b"), deadline=soon())
    await node.stop()


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
        assert (row.state, row.epoch) == (BucketState.ACTIVE, made.count)
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

        async def create(node: NodeId, group: GroupId, replica: ReplicaId, *, witness: bool) -> None:
            await nodes[node].host.create_replica(group, replica, witness=witness)

        async def drop(node: NodeId, group: GroupId, replica: ReplicaId) -> None:
            raise AssertionError("nobody is removed")

        workers = [
            MembershipWorker(
                node=n.id,
                host=n.host,
                view=n.client.view,
                create_replica=create,
                drop_replica=drop,
                clock=CLOCK,
                rng=SystemRng(),
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
