"""The listener over real sockets: connections, limits, silence, early refusals."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dwd.base.errors import Busy, Corrupt, Unavailable
from dwd.base.limits import BLOCK_BYTES
from dwd.gateway.options import GatewayOptions
from dwd.gateway.server import DRAIN_BYTES_MAX
from dwd.objects.ports import BucketInfo, Caller, ObjectInfo
from dwd.runtime.clock import SystemClock
from dwd.runtime.files import Buffer
from tests.twins.gateway import OTHER_ACCESS_KEY, Answer, Gateway, gateway
from tests.twins.memory_objects import MemoryObjects


@pytest.fixture
async def running() -> AsyncIterator[Gateway]:
    async with gateway() as made:
        assert (await made.call("PUT", "/bkt")).status == 200
        yield made


def code(answer: Answer) -> str:
    return answer.body.split(b"<Code>")[1].split(b"</Code>")[0].decode()


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event of its own
            await asyncio.sleep(0.001)


class Gated(MemoryObjects):
    """Stops every look at a bucket until told to go on; can fail reads half-way."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.gate = asyncio.Event()
        self.waiting = 0

    async def bucket(self, caller: Caller, bucket: str, *, deadline: float) -> BucketInfo:
        self.waiting += 1
        await self.gate.wait()
        return await super().bucket(caller, bucket, deadline=deadline)


async def test_every_answer_names_its_request_when_good_or_bad(running: Gateway) -> None:
    seen = set()
    for method, target in (
        ("GET", "/"),
        ("GET", "/bkt/none"),
        ("HEAD", "/bkt/none"),
        ("PATCH", "/bkt"),
        ("GET", "/b/%ff"),
    ):
        answer = await running.call(method, target)
        seen.add(answer.headers["x-amz-request-id"])
    assert len(seen) == 5


async def test_connection_is_kept_when_requests_follow_one_another(running: Gateway) -> None:
    await running.call("PUT", "/bkt/k", b"hello")
    first = running.writer
    assert (await running.call("GET", "/bkt/k")).body == b"hello"
    assert (await running.call("DELETE", "/bkt/k")).status == 204
    assert (await running.call("GET", "/bkt/k")).status == 404
    assert running.writer is first


async def test_pipelined_requests_are_answered_in_order(running: Gateway) -> None:
    await running.send(
        running.signed("PUT", "/bkt/a", b"1") + b"1" + running.signed("GET", "/bkt/a") + running.signed("GET", "/bkt/b")
    )
    assert [(await running.receive()).status for _ in range(3)] == [200, 200, 404]


async def test_small_body_is_drained_when_refused_early(running: Gateway) -> None:
    body = b"x" * DRAIN_BYTES_MAX
    answer = await running.call("PUT", "/missing-bucket/k", body)
    assert (answer.status, code(answer), answer.closed) == (404, "NoSuchBucket", False)
    assert (await running.call("GET", "/")).status == 200


async def test_connection_is_closed_when_a_large_body_is_refused_early(running: Gateway) -> None:
    await running.send(running.signed("PUT", "/missing-bucket/k", length=4 * BLOCK_BYTES))
    await running.send(b"x" * 1_000)
    answer = await running.receive()
    assert (answer.status, answer.closed) == (404, True)


async def test_continue_is_sent_when_the_body_is_wanted(running: Gateway) -> None:
    body = b"b" * 100_000
    await running.send(running.signed("PUT", "/bkt/k", body, {"Expect": "100-continue"}))
    assert (await running.receive()).status == 100
    await running.send(body)
    assert (await running.receive()).status == 200
    assert (await running.call("GET", "/bkt/k")).body == body


@pytest.mark.parametrize(("secret", "target", "status"), [("wrong", "/bkt/k", 403), ("", "/missing-bucket/k", 404)])
async def test_continue_is_never_sent_when_the_head_is_refused(
    running: Gateway, secret: str, target: str, status: int
) -> None:
    how = {"secret": secret} if secret else {}
    await running.send(running.signed("PUT", target, b"body", {"Expect": "100-continue"}, **how))
    answer = await running.receive()
    assert (answer.status, answer.closed) == (status, True)


async def test_requests_over_the_limit_are_told_to_slow_down_before_their_body_is_read() -> None:
    store = Gated()
    options = GatewayOptions(port=0, requests_max=1)
    async with gateway(options, store) as running:
        other = Gateway(port=running.port, server=running.server, objects=store)
        await running.send(running.signed("GET", "/bkt?acl"))
        await eventually(lambda: store.waiting)
        await other.send(other.signed("PUT", "/bkt/k", length=10 * BLOCK_BYTES))
        answer = await other.receive()
        assert (answer.status, code(answer), answer.headers["retry-after"]) == (503, "SlowDown", "1")
        other.forget()
        store.gate.set()
        assert (await running.receive()).status == 404
        await eventually(lambda: running.server.active == 0)
        assert (await running.call("GET", "/")).status == 200


async def test_request_is_given_up_when_the_client_falls_silent() -> None:
    async with gateway(GatewayOptions(port=0, idle_seconds=0.5, linger_seconds=0.05)) as running:
        await running.call("PUT", "/bkt")
        await running.send(running.signed("PUT", "/bkt/k", length=100_000))
        await running.send(b"x" * 70_000)
        answer = await running.receive()
        assert (answer.status, code(answer), answer.closed) == (400, "RequestTimeout", True)
        await eventually(lambda: running.server.active == 0)
        assert (await running.call("GET", "/bkt/k")).status == 404


async def test_nothing_is_left_when_the_client_vanishes_in_the_middle(running: Gateway) -> None:
    await running.send(running.signed("PUT", "/bkt/k", length=3 * BLOCK_BYTES))
    await running.send(b"x" * BLOCK_BYTES)
    await eventually(lambda: running.server.active == 1)
    assert running.writer is not None
    running.writer.transport.abort()
    running.forget()
    await eventually(lambda: running.server.active == 0)
    assert (await running.call("GET", "/bkt/k")).status == 404


async def test_answer_is_given_up_when_the_client_stops_reading() -> None:
    async with gateway(GatewayOptions(port=0, idle_seconds=0.5)) as running:
        await running.call("PUT", "/bkt")
        await running.call("PUT", "/bkt/big", b"z" * (32 * 1024 * 1024))
        await running.send(running.signed("GET", "/bkt/big"))
        await eventually(lambda: running.server.active == 1)
        await eventually(lambda: running.server.active == 0)


class HalfRead(MemoryObjects):
    """Objects whose bytes end in an error after the first piece, or at once."""

    def __init__(self, *, at_once: bool) -> None:
        super().__init__(SystemClock())
        self._at_once = at_once

    async def open(self, *arguments: Any, **how: Any) -> Any:
        reader = await super().open(*arguments, **how)
        good, at_once = reader.chunks, self._at_once

        async def chunks() -> AsyncIterator[Buffer]:
            if not at_once:
                async for chunk in good():
                    yield chunk
                    break
            raise Corrupt("blocks.bad_fragment", "node 7 lied")

        reader.chunks = chunks  # type: ignore[method-assign]
        return reader


async def test_answer_is_broken_off_when_bytes_turn_out_bad_in_the_middle() -> None:
    async with gateway(objects=HalfRead(at_once=False)) as running:
        await running.call("PUT", "/bkt")
        await running.call("PUT", "/bkt/k", b"z" * 3_000_000)
        await running.send(running.signed("GET", "/bkt/k"))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await running.receive()


class Unforeseen(MemoryObjects):
    """Objects whose reading fails by a bug, a few bytes before the end."""

    async def open(self, *arguments: Any, **how: Any) -> Any:
        reader = await super().open(*arguments, **how)
        good = reader.chunks

        async def chunks() -> AsyncIterator[Buffer]:
            whole = b"".join([bytes(chunk) async for chunk in good()])
            yield whole[:-100]
            raise ValueError("nobody thought of this")

        reader.chunks = chunks  # type: ignore[method-assign]
        return reader


async def test_nothing_else_passes_for_the_missing_bytes_when_an_answer_fails_by_a_bug() -> None:
    async with gateway(objects=Unforeseen(SystemClock())) as running:
        await running.call("PUT", "/bkt")
        await running.call("PUT", "/bkt/k", b"z" * 300_000)
        await running.send(running.signed("GET", "/bkt/k"))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await running.receive()


async def test_answer_is_an_error_when_the_first_bytes_are_bad() -> None:
    async with gateway(objects=HalfRead(at_once=True)) as running:
        await running.call("PUT", "/bkt")
        for size in (10, 3_000_000):
            await running.call("PUT", "/bkt/k", b"z" * size)
            answer = await running.call("GET", "/bkt/k")
            assert (answer.status, code(answer)) == (500, "InternalError")
            assert b"node 7" not in answer.body


class Failing(MemoryObjects):
    def __init__(self, error: Exception) -> None:
        super().__init__(SystemClock())
        self._error = error

    async def head(self, *_arguments: Any, **_how: Any) -> ObjectInfo:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (Busy("objects.busy", "node 7 is busy"), 503, "SlowDown"),
        (Unavailable("raft.no_leader", "group 3 has none"), 503, "ServiceUnavailable"),
        (RuntimeError("secret detail"), 500, "InternalError"),
    ],
)
async def test_failures_are_told_without_inner_detail(error: Exception, status: int, name: str) -> None:
    async with gateway(objects=Failing(error)) as running:
        await running.call("PUT", "/bkt")
        answer = await running.call("GET", "/bkt/k?tagging")
        assert (answer.status, code(answer)) == (status, name)
        assert b"detail" not in answer.body
        assert b"7" not in answer.body.split(b"<Message>")[1].split(b"</Message>")[0]
        assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"b" * 20_000 + b"\r\n\r\n"]
)
async def test_answer_is_s3_shaped_when_the_request_is_not_http(running: Gateway, garbage: bytes) -> None:
    await running.send(garbage)
    answer = await running.receive()
    assert (answer.status, code(answer)) == (400, "BadRequest")
    assert "x-amz-request-id" in answer.headers
    assert running.reader is None or await running.reader.read() == b""


async def test_gzip_body_is_stored_as_sent(running: Gateway) -> None:
    data = gzip.compress(b"a" * 1_000)
    await running.call("PUT", "/bkt/k", data, {"Content-Encoding": "gzip"})
    answer = await running.call("GET", "/bkt/k")
    assert (answer.body, answer.headers["content-encoding"]) == (data, "gzip")


async def test_caller_is_refused_when_the_bucket_is_anothers(running: Gateway) -> None:
    answer = await running.call("GET", "/bkt/k", access_key=OTHER_ACCESS_KEY, secret="another secret")
    assert (answer.status, code(answer)) == (403, "AccessDenied")
    unknown = await running.call("GET", "/bkt/k", access_key="nobody")
    assert (unknown.status, code(unknown)) == (403, "InvalidAccessKeyId")
    forged = await running.call("GET", "/bkt/k", secret="wrong")
    assert (forged.status, code(forged)) == (403, "SignatureDoesNotMatch")
    await running.send(b"GET /bkt/k HTTP/1.1\r\nHost: h\r\n\r\n")
    assert code(await running.receive()) == "AccessDenied"


async def test_requests_in_progress_end_when_the_server_stops() -> None:
    store = Gated()
    async with gateway(objects=store) as running:
        await running.call("PUT", "/bkt")
        await running.send(running.signed("GET", "/bkt?acl"))
        await eventually(lambda: store.waiting)
        async with asyncio.TaskGroup() as group:
            group.create_task(running.server.stop(10))
            await asyncio.sleep(0)
            store.gate.set()
            answer = await running.receive()
        assert (answer.status, answer.closed) == (200, True)


async def test_start_says_so_when_the_port_is_taken(running: Gateway) -> None:
    with pytest.raises(Unavailable, match="cannot listen"):
        async with gateway(GatewayOptions(port=running.port)):
            pass
