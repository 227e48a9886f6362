"""One client process that loads S3: as many requests at once as asked for, spread over all endpoints.

The client is `obstore` (Rust), which costs little of the two cores it shares with the cluster. `run` starts processes
of this module; each takes a JSON `Load` as its argument and prints a JSON `Result`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import obstore
from obstore.store import S3Store

MIB = 1024 * 1024
SINGLE_BYTES_MAX = 16 * MIB
"""Larger objects are stored in parts of this size, as real clients do."""
PARTS_AT_ONCE = 4
TIMEOUT = "60s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`verb` is "put" or "get". Ends after `seconds` or `count` objects, whichever comes first."""

    endpoints: Sequence[str]
    access_key: str
    secret_key: str
    region: str
    bucket: str
    prefix: str
    verb: str
    size: int
    concurrency: int
    seconds: float
    count: int
    stored: int = 0
    """For "get": objects 0 … stored-1 exist."""


@dataclass(slots=True, kw_only=True)
class Result:
    """`latencies` in seconds, one an operation that succeeded; `cpu` is this client's own."""

    seconds: float = 0.0
    cpu: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Client:
    """Worker n talks to endpoint n modulo their number, so that every daemon is a gateway to some."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._stores = [_store(load, url) for url in load.endpoints]
        self._content = random.Random(load.prefix).randbytes(load.size + 4096)
        self._next = 0
        self._result = Result()

    async def run(self) -> Result:
        began, cpu = time.perf_counter(), time.process_time()
        self._ends = began + self._load.seconds
        workers = (self._worker(self._stores[n % len(self._stores)]) for n in range(self._load.concurrency))
        await asyncio.gather(*workers)
        self._result.seconds = time.perf_counter() - began
        self._result.cpu = time.process_time() - cpu
        return self._result

    async def _worker(self, store: S3Store) -> None:
        load, result = self._load, self._result
        operation = self._put if load.verb == "put" else self._get
        while self._next < load.count and time.perf_counter() < self._ends:
            number = self._next
            self._next += 1
            began = time.perf_counter()
            try:
                await operation(store, number)
            except (OSError, ValueError, obstore.exceptions.BaseError) as error:
                result.errors.append(repr(error)[:200])
            else:
                result.latencies.append(time.perf_counter() - began)

    async def _put(self, store: S3Store, number: int) -> None:
        start = number % 4096
        content = memoryview(self._content)[start : start + self._load.size]
        single = self._load.size <= SINGLE_BYTES_MAX
        await obstore.put_async(
            store,
            f"{self._load.prefix}/{number}",
            content,
            use_multipart=not single,
            chunk_size=SINGLE_BYTES_MAX,
            max_concurrency=PARTS_AT_ONCE,
        )

    async def _get(self, store: S3Store, number: int) -> None:
        number %= self._load.stored
        answer = await obstore.get_async(store, f"{self._load.prefix}/{number}")
        if self._load.size <= SINGLE_BYTES_MAX:
            content = memoryview(await answer.bytes_async())
            size, first = len(content), bytes(content[:16])
        else:
            size, first = 0, b""
            async for chunk in answer.stream(min_chunk_size=MIB):
                first = first or bytes(memoryview(chunk)[:16])
                size += len(chunk)
        if size != self._load.size or first != self._content[number % 4096 :][: min(16, self._load.size)]:
            raise ValueError(f"object {number} came back wrong")


def run(load: Load, *, processes: int = 1) -> Result:
    """Load from several processes at once; their results as one."""
    shares = [
        dataclasses.replace(
            load,
            prefix=f"{load.prefix}-{number}",
            concurrency=max(1, load.concurrency // processes),
            count=max(1, load.count // processes),
            stored=load.stored // processes,
        )
        for number in range(processes)
    ]
    running = [
        subprocess.Popen(
            [sys.executable, __file__, json.dumps(dataclasses.asdict(share))], stdout=subprocess.PIPE, text=True
        )
        for share in shares
    ]
    total = Result()
    for process in running:
        output, _ = process.communicate()
        if process.returncode != 0:
            sys.exit(f"a client failed ({process.returncode})")
        part = Result(**json.loads(output))
        total.seconds = max(total.seconds, part.seconds)
        total.cpu += part.cpu
        total.latencies += part.latencies
        total.errors += part.errors
    return total


def _store(load: Load, url: str) -> Any:
    return S3Store(
        load.bucket,
        endpoint=url,
        access_key_id=load.access_key,
        secret_access_key=load.secret_key,
        region=load.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": TIMEOUT},
        retry_config={"max_retries": 0},
    )


if __name__ == "__main__":
    os.environ.setdefault("TOKIO_WORKER_THREADS", "2")
    asked = Load(**json.loads(sys.argv[1]))
    sys.stdout.write(json.dumps(dataclasses.asdict(asyncio.run(Client(asked).run()))))
    sys.stdout.flush()
    os._exit(0)  # the client's own threads may still end a request, and abort when the interpreter goes first
