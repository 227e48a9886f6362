"""One process of PySyncObj, run by the interpreter of its own environment: a member, or the client.

member ADDRESS ["ADDRESS", ...]        client "" ["ADDRESS", ...]
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated  # type: ignore[import-not-found]

from perf.consensus.work import Worker

TICK_SECONDS = 0.001
"""How long a member sleeps when nothing comes; its default of 50 ms would be its latency."""
SECONDS = 5.0


class Store(SyncObj):  # type: ignore[misc]
    def __init__(self, own: str | None, others: list[str]) -> None:
        # Without batches a command is sent on at once, not at the next of ten beats a second.
        conf = SyncObjConf(autoTickPeriod=TICK_SECONDS, appendEntriesUseBatch=False, connectionRetryTime=0.2)
        super().__init__(own, others, conf)
        self._values: dict[str, bytes] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: bytes) -> None:
        self._values[key] = value

    def get(self, key: str) -> bytes:
        return self._values[key]


class PySyncObjDriver:
    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self._store = Store(None, addresses)

    async def put(self, key: str, value: bytes) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()

        def done(_: object, error: int) -> None:
            loop.call_soon_threadsafe(lambda: future.done() or future.set_result(error))

        self._store.put(key, value, callback=done)
        async with asyncio.timeout(SECONDS):
            error = await future
        if error:
            raise RuntimeError(f"PySyncObj refused: {error}")

    async def get(self, key: str) -> bytes:
        """What this process has: it may be old."""
        found: bytes = self._store.get(key)
        return found

    async def leader(self) -> int:
        found: Any = self._store._getLeader()  # noqa: SLF001 - its documented way
        return self._addresses.index(str(found)) if found is not None and str(found) in self._addresses else -1


async def client(addresses: list[str]) -> None:
    await Worker(PySyncObjDriver(addresses)).serve()


def main() -> None:
    role, own, addresses = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if role == "client":
        asyncio.run(client(addresses))
        return
    kept = Store(own, [address for address in addresses if address != own])
    while kept:
        time.sleep(3600)


if __name__ == "__main__":
    main()
