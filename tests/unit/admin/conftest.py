"""Admin services on real servers with real certificates; what stands behind them is as each test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.admin.context import OPERATION_SECONDS
from dwd.admin.rpc.consensus import ConsensusServicer
from dwd.admin.rpc.servicer import AdminServicer
from dwd.base.errors import NotFound
from dwd.base.ids import GroupId, NodeId
from dwd.meta.core.control.rows import Domain
from dwd.rpc.channels import Channels
from dwd.rpc.server import RpcServer
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.tasks import Tasks
from dwd.runtime.workers import WorkerRunner
from dwd.security.authority import Authority, create_authority
from dwd.security.credentials import Credential, request_certificate
from dwd.security.peers import Peer
from tests.twins.meta_group import CLUSTER
from tests.unit.node.rows import node_row

CLOCK = SystemClock()
CLOSED = "127.0.0.1:1"
"""Nothing listens there."""


def node_credential(authority: Authority, number: int) -> Credential:
    made = request_certificate()
    certificate = authority.sign_node(made.request, NodeId(number), clock=CLOCK, names=("127.0.0.1",))
    return Credential(
        cluster_id=authority.cluster_id, authority=authority.certificate, certificate=certificate, key=made.key
    )


@dataclass
class Everybody:
    """Admission of whoever has a certificate, and where the nodes are."""

    addresses: dict[int, str] = field(default_factory=dict)

    def check(self, peer: Peer, method: str) -> None:
        """All may."""

    def address(self, node_id: NodeId) -> str:
        if node_id not in self.addresses:
            raise NotFound("node.unknown", f"no node {node_id}")
        return self.addresses[node_id]


@dataclass
class AdminNode:
    """`context` is that of the service."""

    context: Any
    workers: WorkerRunner


@dataclass
class AdminCluster:
    """Nodes by number; those not `serving` are members that cannot be reached."""

    authority: Authority
    tasks: Tasks
    directory: Everybody = field(default_factory=Everybody)
    nodes: dict[int, AdminNode] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    shards: tuple[GroupId, ...] = (GroupId(1), GroupId(2))
    servers: list[RpcServer] = field(default_factory=list)
    opened: list[Channels] = field(default_factory=list)

    def topology(self) -> Any:
        return SimpleNamespace(nodes=self.rows, setting=lambda name: self.settings.get(name, ""))

    async def add(self, number: int, *, serving: bool = True) -> AdminNode:
        credential = node_credential(self.authority, number)
        channels = Channels(credential, self.directory)
        self.opened.append(channels)
        self.rows.append(node_row(number, domain=Domain()))
        workers = WorkerRunner(self.tasks, CLOCK, SystemRng())
        view = SimpleNamespace(topology=self.topology, topology_or_none=self.topology)
        context = SimpleNamespace(
            node=NodeId(number),
            clock=CLOCK,
            meta=SimpleNamespace(view=view, shards=lambda: self.shards),
            channels=channels,
            workers=workers,
            recovery=SimpleNamespace(epoch=0),
            deadline=lambda seconds=OPERATION_SECONDS: CLOCK.monotonic() + seconds,
        )
        made = self.nodes[number] = AdminNode(context=context, workers=workers)
        self.directory.addresses[number] = await self.serve(credential, context) if serving else CLOSED
        return made

    async def serve(self, credential: Credential, context: Any) -> str:
        """The address at which `context` is served."""
        server = RpcServer("127.0.0.1:0", credential, self.directory, clock=CLOCK)
        server.add(AdminServicer(context).register)
        server.add(ConsensusServicer(context).register)
        self.servers.append(server)
        return f"127.0.0.1:{await server.start()}"


@pytest.fixture
async def admins() -> AsyncIterator[AdminCluster]:
    async with Tasks("workers", lambda _name, _error: None) as tasks:
        made = AdminCluster(authority=create_authority(CLUSTER, clock=CLOCK), tasks=tasks)
        yield made
        for channels in made.opened:
            await channels.close()
        for server in made.servers:
            await server.stop(0)
