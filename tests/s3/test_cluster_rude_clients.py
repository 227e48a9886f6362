"""Clients that vanish, stall and crowd six real daemons: others are served, memory is bounded, nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import obstore
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.integration.harness import until
from tests.s3.clients import Clients

pytestmark = [pytest.mark.integration, pytest.mark.campaign]
MIB = 1024 * 1024
BUCKET = "rude"
RESIDENT_BYTES_MAX = 400 * MIB


class _UnsignedBody(S3SigV4Auth):
    def payload(self, request: Any) -> str:
        return "UNSIGNED-PAYLOAD"


@pytest.fixture(scope="module")
def s3(clients: Clients) -> Any:
    clients.boto3.create_bucket(Bucket=BUCKET)
    return clients.boto3


def head(clients: Clients, method: str, key: str, *, length: int = 0) -> bytes:
    host = clients.endpoint.removeprefix("http://")
    request = AWSRequest(method=method, url=f"http://{host}/{BUCKET}/{key}")
    keys = Credentials(clients.s3["access_key"], clients.s3["secret_key"])
    _UnsignedBody(keys, "s3", clients.s3["region"]).add_auth(request)
    lines = [f"{method} /{BUCKET}/{key} HTTP/1.1", f"Host: {host}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in request.headers.items()), "", ""]).encode()


async def connect(clients: Clients, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = clients.endpoint.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    return reader, writer


async def abort(connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    """Reset them; done once they are."""
    for _, writer in connections:
        writer.transport.abort()
    await asyncio.gather(*(writer.wait_closed() for _, writer in connections), return_exceptions=True)


def resident_bytes(clients: Clients) -> int:
    """Of the daemon that clients talk to."""
    pid = clients.cluster.node(clients.cluster.names[0])["pid"]
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_nothing_is_left_behind_when_clients_vanish_in_the_middle(clients: Clients, s3: Any) -> None:
    data = os.urandom(24 * MIB)
    s3.put_object(Bucket=BUCKET, Key="there", Body=data)
    held = clients.cluster.fragments_held()
    gone = []
    for number in range(20):
        half = data[: 9 * MIB if number < 4 else 100_000]
        gone.append(await connect(clients, head(clients, "PUT", f"half/{number}", length=len(data)) + half))
        gone.append(await connect(clients, head(clients, "GET", "there")))
    async with asyncio.timeout(60):
        for _, writer in gone[:8:2]:
            await writer.drain()
        for reader, _ in gone[1::2]:
            assert (await reader.read(12))[:12] == b"HTTP/1.1 200"
    await abort(gone)
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="half/")
    assert listed["KeyCount"] == 0
    assert s3.get_object(Bucket=BUCKET, Key="there")["Body"].read() == data
    until("what was half sent is collected", lambda: clients.cluster.fragments_held() == held)


async def test_others_are_told_to_slow_down_when_too_many_requests_wait(clients: Clients, s3: Any) -> None:
    waiting = [
        await connect(clients, head(clients, "PUT", f"crowd/{number}", length=10) + b"half") for number in range(500)
    ]
    answer = ""
    try:
        while not answer and len(waiting) < 700:
            reader, writer = await connect(clients, head(clients, "PUT", "late", length=10) + b"half")
            waiting.append((reader, writer))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    answer = (await reader.readuntil(b"</Error>")).decode().lower()
        assert answer.startswith("http/1.1 503 ")
        assert "\r\nretry-after: 1\r\n" in answer
        assert "<code>slowdown</code>" in answer
        assert resident_bytes(clients) < RESIDENT_BYTES_MAX
    finally:
        await abort(waiting)
    until("the daemon serves again", lambda: s3.list_buckets()["Buckets"])


def test_memory_stays_bounded_when_sixteen_clients_move_large_objects(clients: Clients, s3: Any) -> None:
    assert s3
    store, data, most = clients.obstore(BUCKET), os.urandom(32 * MIB), 0
    with ThreadPoolExecutor(16) as pool:
        for move in (
            lambda number: obstore.put(store, f"large/{number}", data, use_multipart=False),
            lambda number: obstore.get(store, f"large/{number}").bytes().to_bytes() == data,
        ):
            moving = [pool.submit(move, number) for number in range(16)]
            while wait(moving, timeout=0.05).not_done:
                most = max(most, resident_bytes(clients))
            assert all(one.result() for one in moving)
    assert most < RESIDENT_BYTES_MAX
