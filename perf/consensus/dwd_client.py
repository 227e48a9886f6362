"""A client process for dwd: what a node without a copy of the shard does to write and read metadata.

`dwd.meta`'s own router, sessions and stream; only the copy of control that says where nodes are is a fixed list. The
value is the inline bytes of a PutObject, read back with a linearizable GetObject.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop

from dwd.base.errors import NotFound
from dwd.base.ids import GroupId, NodeId, parse_hex_id
from dwd.meta.core.control.rows import Liveness
from dwd.meta.core.shard.commands import PutObject
from dwd.meta.core.shard.queries import GetObject
from dwd.meta.local import LocalGroups
from dwd.meta.proposer import Proposer
from dwd.meta.router import Router
from dwd.meta.rpc.peers import GrpcPeers
from dwd.rpc.channels import Channels
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.security import identity
from perf.consensus.work import Worker

SHARD = GroupId(1)
BUCKET = "bench"
SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Node:
    node: NodeId
    liveness: Liveness = Liveness.UP


class _Nowhere:
    """Stands for the host, databases and view of a node that holds no groups."""

    def __init__(self, nodes: dict[NodeId, str]) -> None:
        self._addresses = nodes
        self.nodes = tuple(_Node(node) for node in nodes)

    def serves(self, group: GroupId) -> bool:  # noqa: ARG002 - a port
        return False

    def leader_node(self, group: GroupId) -> NodeId:  # noqa: ARG002 - a port
        return NodeId(0)

    def watch(self, *_: object) -> Callable[[], None]:
        return lambda: None

    def topology_or_none(self) -> _Nowhere:
        return self

    def address(self, node: NodeId) -> str:
        found = self._addresses.get(node)
        if found is None:
            raise NotFound("perf.no_node", "no such node")
        return found


class DwdDriver:
    def __init__(self, directory: Path, nodes: dict[NodeId, str]) -> None:
        self._clock, rng = SystemClock(), SystemRng()
        self._nodes = list(nodes)
        nowhere: Any = _Nowhere(nodes)
        credential = identity.load(directory, clock=self._clock).credential
        peers = GrpcPeers(Channels(credential, nowhere), self._clock)
        self._router = Router(
            node=NodeId(0), host=nowhere, local=LocalGroups(nowhere, nowhere), peers=peers, view=nowhere,
            clock=self._clock, rng=rng,
        )  # fmt: skip
        self._proposer = Proposer(self._router, rng, self._clock)

    async def put(self, key: str, value: bytes) -> None:
        command = PutObject(bucket=BUCKET, key=key, bucket_epoch=0, size=len(value), etag="0", inline=value)
        _ = await self._proposer.propose(SHARD, command, deadline=self._clock.monotonic() + SECONDS)

    async def get(self, key: str) -> bytes:
        query = GetObject(bucket=BUCKET, key=key)
        answer = await self._router.answer(SHARD, query, deadline=self._clock.monotonic() + SECONDS)
        return answer.inline or b""

    async def leader(self) -> int:
        await self.put("leader", b"")
        hints = cast("dict[GroupId, NodeId]", self._router._hints)  # noqa: SLF001 - nothing else asks
        return self._nodes.index(hints[SHARD]) if SHARD in hints else 0  # without a hint the first was asked


async def main() -> None:
    nodes = {NodeId(parse_hex_id(node)): address for node, address in json.loads(sys.argv[2])}
    await Worker(DwdDriver(Path(sys.argv[1]), nodes)).serve()


if __name__ == "__main__":
    uvloop.run(main())
