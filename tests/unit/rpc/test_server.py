"""The server as a peer sees it: admission, errors, limits, and streams that end when they must."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from dwd.base.errors import (
    Busy,
    DwError,
    InvalidArgument,
    InvariantViolation,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    VersionRefused,
)
from dwd.base.ids import ClusterId, NodeId
from dwd.base.limits import MESSAGE_BYTES_MAX
from dwd.rpc.admission import Limits
from dwd.rpc.calls import call, translated
from dwd.rpc.guard import peer_of
from dwd.rpc.options import channel_options
from dwd.rpc.server import RpcServer
from dwd.security.authority import create_authority
from dwd.security.peers import NODE_DOMAIN, load_certificate

SECONDS = 10.0


def _unary(channels: Any, method: str = "Echo", node: int = 1) -> Any:
    return channels.to(NodeId(node)).unary_unary(f"/test.Service/{method}")


async def _ask(
    channels: Any, request: bytes = b"x", *, method: str = "Echo", node: int = 1, mutation: bool = False
) -> Any:
    return await call(_unary(channels, method, node), request, seconds=SECONDS, mutation=mutation)


async def test_handler_sees_who_calls_when_admitted(world) -> None:
    async def who(request: bytes, context: Any) -> bytes:
        return str(peer_of(context)).encode()

    await world.serve(1, {"Who": grpc.unary_unary_rpc_method_handler(who)})
    for credential, name in (
        (world.node(2), b"node/0000000000000002"),
        (world.authority.issue_operator("ann", clock=world.clock), b"operator/ann"),
        (world.authority.issue_join("t1", clock=world.clock, minutes=5), b"join/t1"),
    ):
        assert await _ask(world.channels(credential), method="Who") == name
        assert world.members.asked[-1] == (name.decode(), "/test.Service/Who")


async def test_call_never_reaches_the_handler_when_denied(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    world.members.denied.add("node/0000000000000002")
    channels = world.channels(world.node(2))
    with pytest.raises(PermissionDenied) as caught:
        await _ask(channels, method="Wait", mutation=True)
    assert caught.value.code == "rpc.not_member"
    assert not handlers.entered.is_set()
    got: list[bytes] = []
    with pytest.raises(PermissionDenied):
        await _collect(channels.to(NodeId(1)).unary_stream("/test.Service/Drip")(b"", timeout=SECONDS), got)
    assert got == []


async def test_connection_is_refused_when_the_caller_has_no_certificate(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    trusting = grpc.ssl_channel_credentials(root_certificates=world.authority.certificate)
    for channel in (
        grpc.aio.secure_channel(world.members.addresses[1], trusting, options=channel_options(NODE_DOMAIN)),
        grpc.aio.insecure_channel(world.members.addresses[1]),
    ):
        async with channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/test.Service/Echo")(b"", timeout=SECONDS)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert world.members.asked == []


async def test_connection_is_refused_when_the_caller_is_of_another_cluster(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    other = create_authority(ClusterId("d2" * 16), clock=world.clock)
    with pytest.raises(Unavailable) as caught:
        await _ask(world.channels(world.node(2, authority=other)))
    assert caught.value.code == "rpc.untrusted"
    assert world.members.asked == []


async def test_caller_is_refused_when_the_authority_signed_for_another_cluster(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    namesake = type(world.authority)(
        cluster_id=ClusterId("d2" * 16), certificate=world.authority.certificate, key=world.authority.key
    )
    with pytest.raises(VersionRefused) as caught:
        await _ask(world.channels(world.node(2, authority=namesake)))
    assert caught.value.code == "security.wrong_cluster"


async def test_connection_is_refused_when_the_callers_certificate_expired(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    world.clock.skew_ms = -5 * 60_000
    expired = world.authority.issue_join("t1", clock=world.clock, minutes=1)
    world.clock.skew_ms = 0
    with pytest.raises((Unavailable, Unauthenticated)):
        await _ask(world.channels(expired))
    assert world.members.asked == []


async def test_errors_arrive_as_they_were_raised_when_the_handler_refuses(world) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        raise NotFound("bucket.missing", "no bucket a", hint="make it", bucket="a", epoch=7)

    await world.serve(1, {"Refuse": grpc.unary_unary_rpc_method_handler(refuse)})
    with pytest.raises(NotFound) as caught:
        await _ask(world.channels(world.node(2)), method="Refuse", mutation=True)
    error = caught.value
    assert (error.code, error.message, error.hint) == ("bucket.missing", "no bucket a", "make it")
    assert error.fields == {"bucket": "a", "epoch": 7}


@pytest.mark.parametrize("failure", [ValueError("the secret"), InvariantViolation("the secret")])
async def test_nothing_of_a_bug_leaves_when_a_handler_breaks(world, failure) -> None:
    async def broken(request: bytes, context: Any) -> bytes:
        raise failure

    await world.serve(1, {"Broken": grpc.unary_unary_rpc_method_handler(broken)})
    channels = world.channels(world.node(2))
    with pytest.raises(grpc.aio.AioRpcError) as raw:
        await _unary(channels, "Broken")(b"", timeout=SECONDS)
    assert "secret" not in f"{raw.value!r}{raw.value.trailing_metadata()!r}"
    assert raw.value.code() is grpc.StatusCode.INTERNAL
    with pytest.raises(OutcomeUnknown):
        await _ask(channels, method="Broken", mutation=True)
    with pytest.raises(DwError) as caught:
        await _ask(channels, method="Broken", mutation=False)
    assert type(caught.value) is DwError
    assert caught.value.fields["request_id"]


async def test_errors_arrive_when_a_stream_breaks_in_the_middle(world) -> None:
    async def some(request: bytes, context: Any) -> Any:
        yield b"one"
        raise Busy("test.full", "full")

    await world.serve(1, {"Some": grpc.unary_stream_rpc_method_handler(some)})
    got: list[bytes] = []
    with pytest.raises(Busy):
        await _collect(
            world.channels(world.node(2)).to(NodeId(1)).unary_stream("/test.Service/Some")(b"", timeout=SECONDS), got
        )
    assert got == [b"one"]


async def test_all_kinds_of_streams_work_when_admitted(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    channel = world.channels(world.node(2)).to(NodeId(1))

    async def chunks() -> Any:
        for chunk in (b"a", b"b", b"c"):
            yield chunk

    assert await channel.stream_unary("/test.Service/Gather")(chunks(), timeout=SECONDS) == b"abc"
    relayed = [c async for c in channel.stream_stream("/test.Service/Relay")(chunks(), timeout=SECONDS)]
    assert relayed == [b"A", b"B", b"C"]


@pytest.mark.parametrize("method", ["Drip", "Gather"])
async def test_streams_end_with_the_reason_when_their_node_is_removed(world, handlers, method) -> None:
    server = await world.serve(1, handlers.methods())
    channel = world.channels(world.node(2)).to(NodeId(1))

    async def endless() -> Any:
        yield b"x"
        await handlers.hold.wait()

    async def run() -> None:
        with translated(sent=False):
            if method == "Gather":
                await channel.stream_unary("/test.Service/Gather")(endless(), timeout=SECONDS)
            else:
                async for _ in channel.unary_stream("/test.Service/Drip")(b"", timeout=SECONDS):
                    pass

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        running = group.create_task(_expect(PermissionDenied, run()))
        await handlers.entered.wait()
        assert server.close_peer(NodeId(3)) == 0
        assert server.close_peer(NodeId(2)) == 1
        assert server.close_peer(NodeId(2)) == 0
        assert (await running).code == "rpc.removed"
        await handlers.left.wait()


async def test_calls_and_streams_end_when_the_certificate_runs_out(world, handlers) -> None:
    server = await world.serve(1, handlers.methods(), credential=world.node(1, days=9))
    channels = world.channels(world.node(2, days=3))

    async def run() -> None:
        with translated(sent=False):
            async for _ in channels.to(NodeId(1)).unary_stream("/test.Service/Drip")(b"", timeout=SECONDS):
                pass

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        running = group.create_task(_expect(Unauthenticated, run()))
        await handlers.entered.wait()
        assert server.end_expired() == 0
        world.clock.skew_ms = 4 * 86_400_000
        with pytest.raises(Unauthenticated) as caught:
            await _ask(channels)
        assert caught.value.code == "security.certificate_expired"
        assert server.end_expired() == 1
        assert (await running).code == "security.certificate_expired"


async def test_handler_is_cancelled_when_the_client_goes_away(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    async with asyncio.timeout(SECONDS):
        pending = _unary(world.channels(world.node(2)), "Wait")(b"", timeout=SECONDS)
        await handlers.entered.wait()
        pending.cancel()
        await handlers.left.wait()


async def test_calls_are_refused_when_a_peer_has_too_many(world, handlers) -> None:
    await world.serve(1, handlers.methods(), limits=Limits(calls_max=3, calls_per_peer_max=1))
    greedy, modest = world.channels(world.node(2)), world.channels(world.node(3))
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        held = group.create_task(_ask(greedy, method="Wait"))
        await handlers.entered.wait()
        with pytest.raises(Busy):
            await _ask(greedy)
        assert await _ask(modest) == b"x"
        handlers.hold.set()
        await held
    assert await _ask(greedy) == b"x"


async def test_calls_are_refused_when_the_node_has_too_many(world, handlers) -> None:
    await world.serve(1, handlers.methods(), limits=Limits(calls_max=1, calls_per_peer_max=1))
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        held = group.create_task(_ask(world.channels(world.node(2)), method="Wait"))
        await handlers.entered.wait()
        with pytest.raises(Busy):
            await _ask(world.channels(world.node(3)))
        handlers.hold.set()
        await held


async def test_unknown_method_is_told_apart_when_called(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    with pytest.raises(VersionRefused) as caught:
        await _ask(world.channels(world.node(2)), method="Nope", mutation=True)
    assert caught.value.code == "rpc.unknown_method"


async def test_messages_pass_up_to_their_bound_and_not_over_when_sent(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    channels = world.channels(world.node(2))
    assert len(await _ask(channels, bytes(MESSAGE_BYTES_MAX), mutation=True)) == MESSAGE_BYTES_MAX
    with pytest.raises(InvalidArgument) as caught:
        await _ask(channels, bytes(MESSAGE_BYTES_MAX + 1), mutation=True)
    assert caught.value.code == "rpc.message_too_large"


async def test_new_connections_see_the_new_certificate_when_renewed(world, handlers) -> None:
    server = await world.serve(1, handlers.methods())
    renewed = world.node(1)
    assert await _ask(world.channels(world.node(2))) == b"x"
    server.renew(renewed)
    assert await _ask(world.channels(world.node(3))) == b"x"
    assert await _ask(world.channels(world.node(4))) == b"x"
    shown = await asyncio.to_thread(_certificate_at, world.members.addresses[1], world.node(5))
    assert shown == load_certificate(renewed.certificate)


async def test_start_names_the_port_when_it_is_taken(world, handlers) -> None:
    await world.serve(1, handlers.methods())
    second = RpcServer(world.members.addresses[1], world.node(2), world.members, clock=world.clock)
    with pytest.raises(Unavailable, match=world.members.addresses[1]) as caught:
        await second.start()
    assert caught.value.code == "rpc.port_in_use"
    await second.stop(0)


async def test_start_says_why_when_the_address_is_not_this_machines(world) -> None:
    server = RpcServer("192.0.2.1:7400", world.node(1), world.members, clock=world.clock)
    with pytest.raises(InvalidArgument) as caught:
        await server.start()
    assert caught.value.code == "rpc.cannot_listen"
    await server.stop(0)


async def test_streams_are_told_when_the_server_stops(world, handlers) -> None:
    server = await world.serve(1, handlers.methods())
    channel = world.channels(world.node(2)).to(NodeId(1))

    async def run() -> None:
        with translated(sent=False):
            async for _ in channel.unary_stream("/test.Service/Drip")(b"", timeout=SECONDS):
                pass

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        running = group.create_task(_expect(Unavailable, run()))
        await handlers.entered.wait()
        await server.stop(SECONDS)
        assert (await running).code == "rpc.stopping"


async def _collect(answers: Any, into: list[bytes]) -> None:
    with translated(sent=True):
        async for chunk in answers:
            into.append(chunk)  # noqa: PERF401 - what came before an error must stay


async def _expect(kind: type[DwError], running: Any) -> DwError:
    with pytest.raises(kind) as caught:
        await running
    return caught.value


def _certificate_at(address: str, credential: Any) -> Any:
    """The certificate a plain TLS client is shown."""
    import socket  # noqa: PLC0415 - only this helper speaks TLS by itself
    import ssl  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=credential.authority.decode())
    context.set_alpn_protocols(["h2"])
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(credential.key + credential.certificate)
        pair.flush()
        context.load_cert_chain(pair.name)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=NODE_DOMAIN) as tls,
    ):
        return load_certificate(tls.getpeercert(binary_form=True) or b"")
