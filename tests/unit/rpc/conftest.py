"""Real servers and channels on loopback, with real certificates; clocks are the tests' own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from dwd.base.errors import NotFound, PermissionDenied
from dwd.base.ids import ClusterId, NodeId
from dwd.rpc.admission import Limits
from dwd.rpc.channels import Channels
from dwd.rpc.server import RpcServer
from dwd.runtime.clock import SystemClock
from dwd.security.authority import Authority, create_authority
from dwd.security.credentials import Credential, request_certificate
from dwd.security.peers import Peer

CLUSTER = ClusterId("c1" * 16)
SECONDS = 10.0


@dataclass
class SkewedClock:
    """The machine's clock, moved: certificates are made and judged by it, TLS uses the real one."""

    skew_ms: int = 0
    real: SystemClock = field(default_factory=SystemClock)

    def monotonic(self) -> float:
        return self.real.monotonic()

    def unix_ms(self) -> int:
        return self.real.unix_ms() + self.skew_ms


@dataclass
class Members:
    """Admission and directory in one: who is denied, and where nodes are."""

    denied: set[str] = field(default_factory=set)
    addresses: dict[int, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def check(self, peer: Peer, method: str) -> None:
        self.asked.append((str(peer), method))
        if str(peer) in self.denied:
            raise PermissionDenied("rpc.not_member", f"{peer} is no member")

    def address(self, node_id: NodeId) -> str:
        if node_id not in self.addresses:
            raise NotFound("node.unknown", f"no node {node_id}")
        return self.addresses[node_id]


@dataclass
class World:
    authority: Authority
    clock: SkewedClock
    members: Members = field(default_factory=Members)
    servers: list[RpcServer] = field(default_factory=list)
    opened: list[Channels] = field(default_factory=list)

    def node(self, node_id: int, *, authority: Authority | None = None, clock: Any = None, days: int = 3) -> Credential:
        signer = authority or self.authority
        request = request_certificate()
        return Credential(
            cluster_id=signer.cluster_id,
            authority=signer.certificate,
            certificate=signer.sign_node(request.request, NodeId(node_id), clock=clock or self.clock, days=days),
            key=request.key,
        )

    async def serve(
        self,
        node_id: int,
        methods: dict[str, Any],
        *,
        limits: Limits | None = None,
        credential: Credential | None = None,
    ) -> RpcServer:
        server = RpcServer(
            "127.0.0.1:0", credential or self.node(node_id), self.members, clock=self.clock, limits=limits
        )
        server.add_generic("test.Service", methods)
        self.members.addresses[node_id] = f"127.0.0.1:{await server.start()}"
        self.servers.append(server)
        return server

    def channels(self, credential: Credential) -> Channels:
        channels = Channels(credential, self.members)
        self.opened.append(channels)
        return channels


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = SkewedClock()
    made = World(authority=create_authority(CLUSTER, clock=clock), clock=clock)
    yield made
    for channels in made.opened:
        await channels.close()
    for server in made.servers:
        await server.stop(0)


class Handlers:
    """Handlers that tests can look into."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.hold = asyncio.Event()

    async def echo(self, request: bytes, context: Any) -> bytes:
        return request

    async def wait(self, request: bytes, context: Any) -> bytes:
        self.entered.set()
        try:
            await self.hold.wait()
        finally:
            self.left.set()
        return request

    async def drip(self, request: bytes, context: Any) -> Any:
        try:
            yield b"first"
            self.entered.set()
            await self.hold.wait()
        finally:
            self.left.set()

    async def gather(self, requests: Any, context: Any) -> bytes:
        self.entered.set()
        try:
            return b"".join([chunk async for chunk in requests])
        finally:
            self.left.set()

    async def relay(self, requests: Any, context: Any) -> None:
        async for chunk in requests:
            await context.write(chunk.upper())

    def methods(self) -> dict[str, Any]:
        return {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Drip": grpc.unary_stream_rpc_method_handler(self.drip),
            "Gather": grpc.stream_unary_rpc_method_handler(self.gather),
            "Relay": grpc.stream_stream_rpc_method_handler(self.relay),
        }


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()
