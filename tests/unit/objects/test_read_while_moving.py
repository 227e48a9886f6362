"""A download while repair moves everything it has yet to read: it follows, and its client notices nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dwd.base.ids import NodeId
from dwd.base.limits import BLOCK_BYTES
from dwd.base.policy import Policy
from dwd.blocks.fragments import Purpose
from dwd.blocks.reencode import Reencoder
from dwd.blocks.repair import Outcome, Repairer
from dwd.meta.catalogue import ClientCatalogue
from dwd.meta.core.shard.queries import BlockPage
from dwd.objects.ports import ObjectHeaders
from dwd.objects.service import ObjectService
from dwd.runtime.files import Buffer
from tests.twins.memory_blocks import MemoryCluster, NodeTopology
from tests.twins.meta_nodes import soon
from tests.twins.object_node import ObjectNode
from tests.unit.objects.bodies import ADMIN

HERE = NodeId(1)
BLOCKS = 5
FIRST_HALF, SECOND_HALF = range(1, 7), range(7, 13)


class Noise:
    """Does not get smaller when packed."""

    length = None

    def __init__(self) -> None:
        self.data = os.urandom(BLOCKS * BLOCK_BYTES)

    async def chunks(self) -> AsyncGenerator[Buffer, None]:
        for start in range(0, len(self.data), BLOCK_BYTES):
            yield self.data[start : start + BLOCK_BYTES]

    def checksum(self) -> None:
        return None


class Movers:
    """The nodes' devices, and repair that takes every block from one half of them to the other."""

    def __init__(self, cluster: MemoryCluster, node: ObjectNode) -> None:
        self._cluster, self._node = cluster, node
        self._catalogue = ClientCatalogue(node.meta)
        store = cluster.stores[HERE]
        self._repairer = Repairer(
            topology=NodeTopology(cluster.topology, HERE), fragments=cluster.router(HERE), anew=Reencoder(store),
            readers={purpose: store.repair_reader(purpose) for purpose in (Purpose.REPAIR, Purpose.URGENT)},
            catalogue=self._catalogue, clock=cluster.clock,
        )  # fmt: skip

    def use(self, nodes: range) -> None:
        for device, view in self._cluster.topology.views.items():
            self._cluster.topology.set_writable(device, view.node in nodes)
        self._cluster.topology.relayout()

    async def move(self, nodes: range) -> None:
        """Everything there; nothing stays where it was."""
        self.use(nodes)
        (group,) = self._node.meta.holders("bkt")
        page = await self._node.meta.read_group(group, BlockPage(first=0, last=0xFFFF), deadline=soon())
        for owned in page.blocks:
            account = await self._repairer.repair(group, owned, deadline=soon())
            assert account.outcome is Outcome.WHOLE
        assert {view.node for view in self._cluster.topology.views.values() if await self._holds(view)} == set(nodes)

    async def _holds(self, view: Any) -> bool:
        return any(stats.fragments for stats in await self._cluster.wire.services[view.node].stats())


async def test_a_download_goes_on_when_all_it_reads_moves_twice(tmp_path: Path, node: ObjectNode) -> None:
    async with MemoryCluster(tmp_path / "devices", nodes=12) as cluster:
        movers = Movers(cluster, node)
        movers.use(FIRST_HALF)
        service = ObjectService(replace(node.context, blocks=cluster.stores[HERE]))
        await service.create_bucket(ADMIN, "moving", policy=Policy(profile="rs-4-2"), deadline=soon())
        body = Noise()
        await service.put(ADMIN, "moving", "k", body, headers=ObjectHeaders(), deadline=soon())
        reader = await service.open(ADMIN, "moving", "k", deadline=soon())
        moves = [(BLOCK_BYTES, SECOND_HALF), (3 * BLOCK_BYTES, FIRST_HALF)]
        received = b""
        async for piece in reader.chunks():
            received += bytes(piece)
            if moves and len(received) >= moves[0][0]:
                await movers.move(moves.pop(0)[1])
        assert not moves
        assert received == body.data
