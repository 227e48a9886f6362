"""A client process that fills the shard of a development cluster and then writes small values, noting when.

One JSON document a line:

    {"verb": "fill", "first": n, "count": n, "step": n, "bytes": n}   -> {"seconds"}
    {"verb": "load", "concurrency": n, "until": path}                 -> {"begun_took": [[unix time, seconds], ...]}
    {"verb": "leader"}                                                -> {"leader": member}

`load` goes on until the file at `until` exists.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from dwd.base.errors import DwError
from dwd.base.ids import NodeId, parse_hex_id
from perf.consensus.dwd_client import DwdDriver

FILLERS = 16
VALUE = bytes(range(256))
TRIES_MAX = 50


class Client:
    def __init__(self, driver: DwdDriver) -> None:
        self._driver = driver
        self._numbers = itertools.count()

    async def carry_out(self, order: dict[str, Any]) -> dict[str, Any]:
        match order["verb"]:
            case "leader":
                return {"leader": await self._driver.leader()}
            case "fill":
                return await self._fill(order)
            case _:
                return await self._load(order["concurrency"], Path(order["until"]))

    async def _fill(self, order: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        numbers = iter(range(order["first"], order["first"] + order["count"] * order["step"], order["step"]))

        async def some() -> None:
            for number in numbers:
                await self._put(f"fill{number:09d}", _content(order["salt"], number, order["bytes"]))

        await asyncio.gather(*(some() for _ in range(FILLERS)))
        return {"seconds": time.monotonic() - began}

    async def _put(self, key: str, value: bytes) -> None:
        for _ in range(TRIES_MAX):
            try:
                return await self._driver.put(key, value)
            except DwError:
                await asyncio.sleep(0.2)
        return await self._driver.put(key, value)

    async def _load(self, concurrency: int, until: Path) -> dict[str, Any]:
        done: list[tuple[float, float]] = []

        async def one_after_another(numbers: Iterator[int]) -> None:
            while not until.exists():  # noqa: ASYNC240 - a look takes microseconds
                begun, start = time.time(), time.perf_counter()
                await self._put(f"load{next(numbers) % 1000}", VALUE)
                done.append((begun, time.perf_counter() - start))

        await asyncio.gather(*(one_after_another(self._numbers) for _ in range(concurrency)))
        return {"begun_took": done}


def _content(salt: int, number: int, size: int) -> bytes:
    """No page like another."""
    return b"".join(f"{salt:08d}{number:012d}{at:012d}".encode() for at in range(size // 32))


async def main() -> None:
    nodes = {NodeId(parse_hex_id(node)): address for node, address in json.loads(sys.argv[2])}
    client = Client(DwdDriver(Path(sys.argv[1]), nodes))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer = await client.carry_out(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
