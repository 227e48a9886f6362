"""The relay between two nodes: bytes pass, a cut holds one direction back, what was held flows on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from dwd.base.errors import NotFound
from dwd.base.ids import NodeId
from dwd.rpc.testing_relay import Relay
from tests.twins.raft_cluster import until

HERE, THERE = NodeId(1), NodeId(2)
PATIENCE_SECONDS = 20.0


@dataclass
class Net:
    """A relay before an echo server; `got` is what the server received."""

    relay: Relay
    cut: set[tuple[NodeId, NodeId]]
    got: bytearray = field(default_factory=bytearray)


class Addresses:
    def __init__(self, place: str) -> None:
        self._place = place

    def address(self, node_id: NodeId) -> str:
        if node_id != THERE:
            raise NotFound("test.unknown", "no such node")
        return self._place


@asynccontextmanager
async def net() -> AsyncIterator[Net]:
    got, cut = bytearray(), set[tuple[NodeId, NodeId]]()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(100):
            got.extend(piece)
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    relay = Relay(HERE, Addresses(place), is_cut=lambda a, b: (a, b) in cut, delay_seconds=lambda a, b: 0.0)
    try:
        yield Net(relay=relay, cut=cut, got=got)
    finally:
        await relay.close()
        server.close()


async def connect(made: Net) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = made.relay.address(THERE).rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def test_bytes_pass_both_ways_when_nothing_is_cut() -> None:
    async with net() as made:
        reader, writer = await connect(made)
        writer.write(b"hello")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await reader.readexactly(5) == b"hello"
        assert made.relay.address(THERE) == made.relay.address(THERE)
        writer.close()


async def test_only_one_direction_is_held_back_when_one_is_cut() -> None:
    async with net() as made:
        reader, writer = await connect(made)
        made.cut.add((THERE, HERE))
        writer.write(b"ask")
        await until(lambda: made.got == b"ask", "it arrives")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                _ = await reader.readexactly(3)
        made.cut.clear()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await reader.readexactly(3) == b"ask"
        writer.close()


async def test_nothing_arrives_when_the_way_there_is_cut() -> None:
    async with net() as made:
        made.cut.add((HERE, THERE))
        reader, writer = await connect(made)
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                _ = await reader.readexactly(4)
        assert not made.got
        made.cut.clear()
        await until(lambda: made.got == b"late", "it arrives")
        writer.close()


async def test_connection_ends_when_nobody_listens_there() -> None:
    relay = Relay(HERE, Addresses("127.0.0.1:1"), is_cut=lambda a, b: False, delay_seconds=lambda a, b: 0.0)
    try:
        host, _, port = relay.address(THERE).rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await reader.read() == b""
        writer.close()
        with pytest.raises(NotFound):
            _ = relay.address(HERE)
    finally:
        await relay.close()
