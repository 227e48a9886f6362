"""A client process for etcd over its public gRPC API (etcdserverpb.KV), with two messages encoded by hand.

PutRequest    key bytes = 1, value bytes = 2          RangeRequest  key bytes = 1
RangeResponse kvs KeyValue = 2, count int64 = 4;  KeyValue value bytes = 5, the last of it without a lease
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request

import grpc
import uvloop

from perf.consensus.work import VALUE, Worker

SECONDS = 5.0
ATTEMPT_SECONDS = 1.0
"""A member that says nothing for so long is passed over; etcd's own clients wait for their keepalive instead."""
COUNT_BYTES = 2
"""The answer ends with the count: 1."""
STATUS_SECONDS = 1.0
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))


class EtcdDriver:
    """Asks the leader; when that fails, the next member."""

    def __init__(self, endpoints: list[str]) -> None:
        self._endpoints = endpoints
        channels = [grpc.aio.insecure_channel(endpoint, options=OPTIONS) for endpoint in endpoints]
        self._put = [channel.unary_unary("/etcdserverpb.KV/Put") for channel in channels]
        self._range = [channel.unary_unary("/etcdserverpb.KV/Range") for channel in channels]
        self._at = 0

    async def put(self, key: str, value: bytes) -> None:
        await self._ask(self._put, _field(1, key.encode()) + _field(2, value))

    async def get(self, key: str) -> bytes:
        answer = await self._ask(self._range, _field(1, key.encode()))
        return answer[-len(VALUE) - COUNT_BYTES : -COUNT_BYTES]

    async def leader(self) -> int:
        for at, endpoint in enumerate(self._endpoints):
            status = await asyncio.to_thread(_status, endpoint)
            if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                self._at = at
                return at
        return -1

    async def _ask(self, methods: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]], request: bytes) -> bytes:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            at = self._at
            try:
                return await methods[at](request, timeout=ATTEMPT_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() not in RETRIED:
                    raise
                if self._at == at:
                    self._at = (at + 1) % len(methods)
                await asyncio.sleep(0.01)
        raise TimeoutError("no member answers")


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of up to 16 KiB."""
    length = len(content)
    size = bytes((length,)) if length < 128 else bytes((length & 127 | 128, length >> 7))
    return bytes((number << 3 | 2,)) + size + content


def _status(endpoint: str) -> dict[str, object]:
    request = urllib.request.Request(f"http://{endpoint}/v3/maintenance/status", data=b"{}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=STATUS_SECONDS) as answer:
            found: dict[str, object] = json.load(answer)
            return found
    except (OSError, urllib.error.URLError, ValueError):
        return {}


async def main() -> None:
    await Worker(EtcdDriver(json.loads(sys.argv[1]))).serve()


if __name__ == "__main__":
    uvloop.run(main())
