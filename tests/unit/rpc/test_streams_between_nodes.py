"""Streams of consensus between nodes over real gRPC: they end with the certificate or the membership they stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import Unauthenticated
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term
from dwd.node.network import Network
from dwd.raft.core.messages import Heartbeat
from dwd.raft.quorum_loss.epochs import Epochs
from dwd.raft.rpc.transport import GrpcTransport
from dwd.raft.transport import SnapshotRequest
from dwd.rpc import server as rpc_server
from dwd.rpc.channels import Channels
from dwd.rpc.server import RpcServer
from dwd.rpc.wire_versions import WIRE, WireVersions
from dwd.runtime.os_files import OsFiles
from dwd.security.credentials import Credential

SECONDS = 10.0
GROUP = GroupId(1)
TWO_DAYS_MS = 2 * 86_400_000
SNAPSHOT = SnapshotRequest(
    group=GROUP, source=ReplicaId(1), target=ReplicaId(2), index_min=LogIndex(1), token=0, offset=0
)
HEARTBEAT = Heartbeat(source=ReplicaId(1), target=ReplicaId(2), term=Term(1), commit=LogIndex(0), round=1)


class Side:
    """A node: its listener, its transport, and what its host would have heard."""

    def __init__(
        self, world: Any, number: int, credential: Credential, directory: Path, versions: WireVersions = WIRE
    ) -> None:
        self.id = NodeId(number)
        self.heard: list[NodeId] = []
        self.breaks = 0
        self.channels: Channels = world.channels(credential)
        self.server = RpcServer("127.0.0.1:0", credential, world.members, clock=world.clock)
        epochs = Epochs(OsFiles(), directory / f"recovery-{number}.json", world.clock)
        self.transport = GrpcTransport(
            node=self.id, channels=self.channels, epochs=epochs, introduce=dict, versions=versions
        )
        self.transport.register(self.server)
        world.servers.append(self.server)

    def received(self, node: NodeId, group: GroupId, parcels: Sequence[Any]) -> None:
        self.heard.extend([node] * len(parcels))

    def broken(self, node: NodeId) -> None:
        self.breaks += 1

    def say(self, to: Side) -> None:
        self.transport.send(to.id, GROUP, [HEARTBEAT])


Sides = Callable[..., Awaitable[tuple[Side, Side]]]


@pytest.fixture
async def sides(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two nodes that hear each other; `days` their certificates last."""
    monkeypatch.setattr(rpc_server, "SWEEP_SECONDS", 0.02)
    made: list[Side] = []

    async def make(*days: int) -> tuple[Side, Side]:
        for number, lasting in enumerate(days, 1):
            side = Side(world, number, world.node(number, days=lasting), tmp_path)
            world.members.addresses[number] = f"127.0.0.1:{await side.server.start()}"
            await side.transport.start(side)  # type: ignore[arg-type]  # snapshots and replicas are not asked for
            made.append(side)
        first, second = made
        first.say(second)
        second.say(first)
        await until(lambda: bool(first.heard) and bool(second.heard))
        return first, second

    yield make
    for side in made:
        await side.transport.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110 - what is waited for happens on other tasks of this loop
            await asyncio.sleep(0.01)


async def refused(speaker: Side, listener: Side) -> None:
    """Whatever is said from now on does not arrive: two more attempts break."""
    before, breaks = len(listener.heard), speaker.breaks
    for attempt in (1, 2):
        speaker.say(listener)
        await until(lambda wanted=breaks + attempt: speaker.breaks >= wanted)  # type: ignore[misc]
    assert len(listener.heard) == before


async def test_streams_both_ways_end_when_the_certificate_of_one_end_runs_out(world: Any, sides: Sides) -> None:
    lasting, expiring = await sides(3, 1)
    assert (lasting.breaks, expiring.breaks) == (0, 0)
    world.clock.skew_ms = TWO_DAYS_MS
    await until(lambda: lasting.breaks > 0 and expiring.breaks > 0)
    assert (lasting.server.streams, expiring.server.streams) == (0, 0)
    await refused(expiring, lasting)
    await refused(lasting, expiring)


async def test_streams_go_on_when_no_certificate_has_run_out(world: Any, sides: Sides) -> None:
    first, second = await sides(3, 3)
    world.clock.skew_ms = TWO_DAYS_MS
    for _ in range(3):
        heard = len(first.heard)
        second.say(first)
        await until(lambda wanted=heard + 1: len(first.heard) >= wanted)  # type: ignore[misc]
    assert (first.breaks, second.breaks) == (0, 0)


async def test_renewed_certificate_keeps_a_server_open_when_its_first_one_runs_out(world: Any, sides: Sides) -> None:
    first, second = await sides(1, 3)
    first.server.renew(world.node(1, days=3))
    world.clock.skew_ms = TWO_DAYS_MS
    heard = len(first.heard)
    second.say(first)
    await until(lambda: len(first.heard) > heard)
    assert first.server.end_expired() == 0


async def test_streams_both_ways_end_when_a_node_is_removed(world: Any, sides: Sides) -> None:
    staying, removed = await sides(3, 3)
    network: Any = SimpleNamespace(channels=staying.channels, server=staying.server)
    del world.members.addresses[2]
    world.members.denied.add("node/0000000000000002")
    Network._cut_off(network, removed.id)
    await until(lambda: staying.breaks > 0 and removed.breaks > 0)
    await refused(removed, staying)
    await refused(staying, removed)


async def test_call_is_refused_when_the_servers_own_certificate_ran_out(world: Any, sides: Sides) -> None:
    expiring, lasting = await sides(1, 3)
    world.clock.skew_ms = TWO_DAYS_MS
    with pytest.raises(Unauthenticated) as caught:
        await lasting.transport.fetch_snapshot(expiring.id, SNAPSHOT).__anext__()
    assert caught.value.code == "security.own_certificate_expired"


@pytest.mark.parametrize("least", [2, 3])
async def test_stream_is_refused_only_when_the_versions_of_its_ends_are_disjoint(
    world: Any, tmp_path: Path, least: int
) -> None:
    old = Side(world, 1, world.node(1, days=3), tmp_path, WireVersions(least=1, most=2))
    new = Side(world, 2, world.node(2, days=3), tmp_path, WireVersions(least=least, most=4))
    for side in (old, new):
        world.members.addresses[side.id] = f"127.0.0.1:{await side.server.start()}"
        await side.transport.start(side)  # type: ignore[arg-type]  # snapshots and replicas are not asked for
    try:
        if least == 3:
            await refused(old, new)
            await refused(new, old)
            return
        old.say(new)
        new.say(old)
        await until(lambda: bool(old.heard) and bool(new.heard))
    finally:
        for side in (old, new):
            await side.transport.close()
