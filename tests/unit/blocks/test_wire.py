"""Fragments over real gRPC under mutual TLS between two nodes of one process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dwd.base.errors import DeadlineExceeded, NotFound, StorageFailed, Unavailable
from dwd.base.ids import NodeId
from dwd.base.policy import Policy
from dwd.blocks.fragments import FragmentRouter
from dwd.blocks.ports import Owner
from dwd.blocks.rpc.client import RemoteFragments
from dwd.blocks.rpc.server import FragmentServer
from dwd.blocks.rpc.wire import bundles, entries, entry
from dwd.blocks.store import ErasureBlockStore
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.rpc.channels import Channels
from dwd.rpc.server import RpcServer
from dwd.runtime.clock import SystemClock
from dwd.security.authority import Authority, create_authority
from dwd.security.credentials import Credential, request_certificate
from tests.twins.memory_blocks import CLUSTER, MemoryCluster

OWNER = Owner(bucket="b", key="k")
BIG = os.urandom(2_000_001)


class Everyone:
    def check(self, peer: object, method: str) -> None:
        pass


class Addresses:
    def __init__(self) -> None:
        self.known: dict[NodeId, str] = {}

    def address(self, node_id: NodeId) -> str:
        return self.known[node_id]


def credential_of(authority: Authority, node: NodeId) -> Credential:
    made = request_certificate()
    certificate = authority.sign_node(made.request, node, clock=SystemClock())
    return Credential(cluster_id=CLUSTER, authority=authority.certificate, certificate=certificate, key=made.key)


@asynccontextmanager
async def wired(path: Path) -> AsyncIterator[tuple[MemoryCluster, RemoteFragments, list[RpcServer]]]:
    """A cluster of three whose node 1 reaches nodes 2 and 3 by gRPC."""
    clock = SystemClock()
    authority = create_authority(CLUSTER, clock=clock)
    addresses = Addresses()
    async with MemoryCluster(path, nodes=3) as cluster:
        servers = []
        for node in cluster.node_ids[1:]:
            server = RpcServer("127.0.0.1:0", credential_of(authority, node), Everyone(), clock=clock)
            FragmentServer(cluster.wire.services[node], clock).add_to(server)
            addresses.known[node] = f"127.0.0.1:{await server.start()}"
            servers.append(server)
        channels = Channels(credential_of(authority, NodeId(1)), addresses)
        remote = RemoteFragments(channels, clock)
        try:
            yield cluster, remote, servers
        finally:
            await remote.close()
            await channels.close()
            for server in servers:
                await server.stop(0)


def store_over(cluster: MemoryCluster, remote: RemoteFragments) -> ErasureBlockStore:
    topology = cluster.stores[NodeId(1)].reader.topology
    return ErasureBlockStore(
        topology=topology,
        fragments=FragmentRouter(topology, cluster.wire.services[NodeId(1)], remote),
        clock=cluster.clock,
        rng=cluster.rng,
    )


async def test_blocks_of_every_size_travel_when_nodes_speak_grpc(tmp_path: Path) -> None:
    async with wired(tmp_path) as (cluster, remote, _):
        store = store_over(cluster, remote)
        store.latencies.write_slow_seconds = lambda _: 60.0  # type: ignore[method-assign]  # a busy machine is no fault
        sizes = [1, 100, 65_537, 131_071, 131_072, 600_001, 2_000_001]

        async def one(size: int) -> None:
            block = await store.write(BIG[:size], policy=Policy(profile="rs-2-1"), owner=OWNER, deadline=cluster.soon)
            assert not block.needs_repair
            views = await store.read(block, owner=OWNER, offset=0, length=size, deadline=cluster.soon)
            assert b"".join(views) == BIG[:size]

        await asyncio.gather(*(one(size) for size in sizes * 10))
        await store.close()


async def test_answers_and_errors_arrive_as_they_were_given_when_asked_over_the_wire(tmp_path: Path) -> None:
    async with wired(tmp_path) as (cluster, remote, servers):
        store = store_over(cluster, remote)
        block = await store.write(BIG, policy=Policy(profile="replica-3"), owner=OWNER, deadline=cluster.soon)
        (device,) = cluster.devices_of(NodeId(2))
        key = FragmentKey(block.block, block_index(cluster, block.block, device))
        held = await remote.held(NodeId(2), device, (block.block,), verify=True, deadline=cluster.soon)
        assert [(h.key, h.sound) for h in held] == [(key, True)]
        await remote.delete(NodeId(2), device, (key,), deadline=cluster.soon)
        with pytest.raises(NotFound) as missing:
            await remote.get(NodeId(2), device, key, offset=0, length=10, deadline=cluster.soon)
        assert missing.value.code == "blocks.no_such_fragment"
        with pytest.raises(NotFound):
            await remote.get(NodeId(2), device, key, offset=0, length=1 << 20, deadline=cluster.soon)
        with pytest.raises(DeadlineExceeded):
            await remote.get(NodeId(2), device, key, offset=0, length=10, deadline=cluster.clock.monotonic() - 1)
        await cluster.device(device).close()
        with pytest.raises(StorageFailed):
            await remote.get(NodeId(2), device, key, offset=0, length=10, deadline=cluster.soon)
        await servers[0].stop(0)
        with pytest.raises(Unavailable):
            await remote.get(NodeId(2), device, key, offset=0, length=10, deadline=cluster.soon)
        await store.close()


def block_index(cluster: MemoryCluster, block: bytes, device: int) -> int:
    return cluster.topology.layouts[-1].places(block, 3).index(device)  # type: ignore[arg-type]


def test_bundles_are_cut_between_entries_only() -> None:
    messages = [os.urandom(n * 50_000) for n in range(60)]
    queue = [piece for n, m in enumerate(messages) for piece in entry(n, [m[:7], m[7:]])]
    made = bundles(queue)
    assert len(made) > 10
    assert [(n, bytes(m)) for bundle in made for n, m in entries(bundle)] == list(enumerate(messages))
