"""A gateway over objects in memory on a free port, and ways to talk to it: raw requests signed by botocore (an
independent implementation of the algorithm), or real clients in other threads and processes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Keys

from dwd.gateway.options import GatewayOptions
from dwd.gateway.server import S3Server
from dwd.objects.authentication import Credential
from dwd.objects.ports import Caller, Objects
from dwd.runtime.clock import SystemClock
from tests.twins.memory_credentials import MemoryCredentials
from tests.twins.memory_objects import MemoryObjects

ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
OTHER_ACCESS_KEY = "AKIDOTHER"
OTHER_SECRET_KEY = "another secret"
ALICE = Caller(user="alice", access_key=ACCESS_KEY, admin=False)
BOB = Caller(user="bob", access_key=OTHER_ACCESS_KEY, admin=False)


def credentials() -> MemoryCredentials:
    return MemoryCredentials(
        Credential(caller=ALICE, secret=SECRET_KEY), Credential(caller=BOB, secret=OTHER_SECRET_KEY)
    )


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool = False


@dataclass(slots=True)
class Gateway:
    """A running gateway, and one connection to it that is opened when first used."""

    port: int
    server: S3Server
    objects: Objects
    reader: asyncio.StreamReader | None = field(default=None)
    writer: asyncio.StreamWriter | None = field(default=None)

    async def send(self, data: bytes) -> None:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, *, method: str = "GET") -> Answer:
        async with asyncio.timeout(20):
            reader = self.reader
            assert reader is not None
            raw = await reader.readuntil(b"\r\n\r\n")
            lines = raw.decode().split("\r\n")
            headers = {}
            for line in lines[1:-2]:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            status = int(lines[0].split(" ")[1])
            bodiless = method == "HEAD" or status in {100, 204, 304}
            body = b"" if bodiless else await reader.readexactly(int(headers["content-length"]))
            closed = headers.get("connection", "").lower() == "close"
            if closed:
                self.forget()
            return Answer(status, headers, body, closed)

    async def call(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        secret: str = SECRET_KEY,
        access_key: str = ACCESS_KEY,
    ) -> Answer:
        await self.send(self.signed(method, target, body, headers, secret=secret, access_key=access_key) + body)
        return await self.receive(method=method)

    def signed(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        secret: str = SECRET_KEY,
        access_key: str = ACCESS_KEY,
        length: int | None = None,
        host: str = "",
    ) -> bytes:
        """The head of a signed request."""
        host = host or f"127.0.0.1:{self.port}"
        request = AWSRequest(method=method, url=f"http://{host}{target}", headers=dict(headers or {}), data=body)
        S3SigV4Auth(Keys(access_key, secret), "s3", "us-east-1").add_auth(request)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        if length is not None or body or method in {"PUT", "POST"}:
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def forget(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


@asynccontextmanager
async def gateway(options: GatewayOptions | None = None, objects: Objects | None = None) -> AsyncIterator[Gateway]:
    """On this event loop."""
    clock = SystemClock()
    store = objects if objects is not None else MemoryObjects(clock)
    server = S3Server(store, credentials(), clock, options or GatewayOptions(port=0))
    running = Gateway(port=await server.start(), server=server, objects=store)
    try:
        yield running
    finally:
        running.forget()
        await server.stop(0.1)


@contextmanager
def gateway_in_thread(options: GatewayOptions | None = None) -> Iterator[int]:
    """On an event loop of its own, for clients that block; the port."""
    ready = threading.Event()
    ports: list[int] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with gateway(options) as running:
            ports.append(running.port)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(20)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
