"""Channels: the right node or none, quick failure, quick return."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from dwd.base.errors import DeadlineExceeded, DwError, NotFound, OutcomeUnknown, Unavailable
from dwd.base.ids import NodeId
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels, Lane

SECONDS = 10.0


async def _echo(channel: Any, *, method: str = "Echo", mutation: bool = True, seconds: float = SECONDS) -> bytes:
    return await call(channel.unary_unary(f"/test.Service/{method}"), b"x", seconds=seconds, mutation=mutation)


@contextmanager
def _dead_address() -> Iterator[str]:
    """Where nobody listens, nor can begin to."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


async def test_channel_is_shared_when_asked_for_twice(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    channels = world.channels(world.node(2))
    assert channels.to(NodeId(1)) is channels.to(NodeId(1))
    assert channels.to(NodeId(1)) is not channels.to(NodeId(1), Lane.BULK)


async def test_call_is_refused_when_another_node_has_the_address(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    world.members.addresses[2] = world.members.addresses[1]
    with pytest.raises(Unavailable) as caught:
        await _echo(world.channels(world.node(3)).to(NodeId(2)))
    assert caught.value.code == "rpc.untrusted"
    assert world.members.asked == []


async def test_any_node_answers_when_called_by_address(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    joining = world.channels(world.authority.issue_join("t1", clock=world.clock, minutes=5))
    assert await _echo(joining.to_address(world.members.addresses[1])) == b"x"


async def test_impostor_is_refused_when_it_is_no_node(world, handlers) -> None:
    operator = world.authority.issue_operator("ann", clock=world.clock)
    await world.serve(1, handlers.methods(), credential=operator)
    with pytest.raises(Unavailable) as caught:
        await _echo(world.channels(world.node(2)).to_address(world.members.addresses[1]))
    assert caught.value.code == "rpc.untrusted"


async def test_unknown_node_is_told_when_asked_for(world) -> None:
    with pytest.raises(NotFound):
        world.channels(world.node(2)).to(NodeId(9))


async def test_nothing_was_changed_when_the_node_is_down(world) -> None:
    with _dead_address() as world.members.addresses[1]:
        channel = world.channels(world.node(2)).to(NodeId(1))
        started = world.clock.monotonic()
        for _ in range(5):
            with pytest.raises(Unavailable) as caught:
                await _echo(channel, mutation=True)
            assert caught.value.code == "rpc.unreachable"
    assert world.clock.monotonic() - started < SECONDS / 2


@pytest.mark.parametrize(("mutation", "kind"), [(True, OutcomeUnknown), (False, Unavailable)])
async def test_outcome_is_judged_by_the_call_when_the_server_dies_in_it(world, handlers, mutation, kind) -> None:
    server = await world.serve(1, handlers.methods())
    channel = world.channels(world.node(2)).to(NodeId(1))
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        waiting = group.create_task(_failure(_echo(channel, method="Wait", mutation=mutation)))
        await handlers.entered.wait()
        await server.stop(0)
        assert type(await waiting) is kind


async def test_call_breaks_off_when_the_peer_falls_silent(world, handlers) -> None:
    """Neither refused nor closed: a stopped process, a cut cable. The deadline of the call is far away."""
    await world.serve(1, handlers.methods())
    silent = asyncio.Event()
    async with _relay(world.members.addresses[1], silent) as address:
        world.members.addresses[1] = address
        channel = world.channels(world.node(2)).to(NodeId(1))
        async with asyncio.timeout(2 * SECONDS), asyncio.TaskGroup() as group:
            waiting = group.create_task(_failure(_echo(channel, method="Wait", mutation=False, seconds=1000)))
            await handlers.entered.wait()
            silent.set()
            assert type(await waiting) is Unavailable


@pytest.mark.parametrize(("mutation", "kind"), [(True, OutcomeUnknown), (False, DeadlineExceeded)])
async def test_deadline_tells_what_is_known_when_it_passes(world, handlers, mutation, kind) -> None:
    await world.serve(1, handlers.methods())
    with pytest.raises(kind):
        await _echo(world.channels(world.node(2)).to(NodeId(1)), method="Wait", mutation=mutation, seconds=0.2)


async def test_nothing_is_sent_when_no_time_is_left(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    channel = world.channels(world.node(2)).to(NodeId(1))
    with pytest.raises(DeadlineExceeded):
        await _echo(channel, mutation=True, seconds=0.0)
    assert world.members.asked == []


async def test_node_is_found_again_when_it_comes_back(world, handlers) -> None:
    server = await world.serve(1, handlers.methods())
    address = world.members.addresses[1]
    channel = world.channels(world.node(2)).to(NodeId(1))
    assert await _echo(channel) == b"x"
    await server.stop(0)
    with pytest.raises(Unavailable):
        await _echo(channel, mutation=False)  # it may leave on the old connection, whose end is not known here yet
    again = type(server)(address, world.node(1), world.members, clock=world.clock)
    again.add_generic("test.Service", handlers.methods())
    await again.start()
    world.servers.append(again)
    async with asyncio.timeout(SECONDS):
        await channel.channel_ready()
    assert await _echo(channel) == b"x"


async def test_calls_go_to_the_new_address_when_a_node_moves(world, handlers) -> None:
    first = await world.serve(1, handlers.methods())
    channels = world.channels(world.node(2))
    before = channels.to(NodeId(1))
    assert await _echo(before) == b"x"
    await world.serve(1, handlers.methods())
    await first.stop(0)
    assert channels.to(NodeId(1)) is not before
    assert await _echo(channels.to(NodeId(1))) == b"x"


async def test_new_certificate_is_shown_when_renewed(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    channels = world.channels(world.node(2))
    assert await _echo(channels.to(NodeId(1))) == b"x"
    channels.renew(world.node(3))
    assert await _echo(channels.to(NodeId(1))) == b"x"
    assert [peer for peer, _ in world.members.asked] == ["node/0000000000000002", "node/0000000000000003"]


async def test_no_channel_is_opened_when_closed(world) -> None:
    world.members.addresses[1] = "127.0.0.1:1"
    channels: Channels = world.channels(world.node(2))
    channels.to(NodeId(1))
    await channels.close()
    await channels.close()
    with pytest.raises(Unavailable):
        channels.to(NodeId(1))


async def _failure(running: Coroutine[Any, Any, object]) -> DwError:
    with pytest.raises(DwError) as caught:
        await running
    return caught.value


@asynccontextmanager
async def _relay(target: str, silent: asyncio.Event) -> AsyncIterator[str]:
    """A TCP relay to `target` that moves nothing more once `silent`, and closes nothing."""
    host, _, port = target.rpartition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (chunk := await reader.read(65_536)) and not silent.is_set():
            writer.write(chunk)
        if silent.is_set():
            await asyncio.Event().wait()
        writer.close()

    async with asyncio.TaskGroup() as group:

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            pumps.append(group.create_task(pump(reader, far_writer)))
            pumps.append(group.create_task(pump(far_reader, writer)))

        pumps: list[asyncio.Task[None]] = []
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in pumps:
                task.cancel()
