"""What every client process does, whatever system it drives: takes orders on standard input, answers on the output.

One JSON document a line. Only the standard library: it also runs in a virtual environment of its own.

    {"verb": "put" | "get", "concurrency": n, "seconds": s}    -> {"seconds", "cpu", "latencies", "errors"}
    {"verb": "probe", "seconds": s}                            -> {"begun_ended": [[t0, t1], ...]}
    {"verb": "leader"}                                         -> {"leader": member}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import time
from typing import Any, Protocol

VALUE = bytes(range(256))
PROBE_EVERY_SECONDS = 0.01
PROBE_PENDING_MAX = 256


class Driver(Protocol):
    """One connected client. `put` and `get` raise what went wrong."""

    async def put(self, key: str, value: bytes) -> None: ...

    async def get(self, key: str) -> bytes: ...

    async def leader(self) -> int:
        """The member that leads, counted from 0; -1 if it is not known."""
        ...


class Worker:
    """Keys are written once and read back in turn."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._written = 0

    async def serve(self) -> None:
        """Until standard input ends."""
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order = json.loads(line)
            answer = await self._carry_out(order)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    async def _carry_out(self, order: dict[str, Any]) -> dict[str, Any]:
        match order["verb"]:
            case "leader":
                return {"leader": await self._driver.leader()}
            case "probe":
                return await self._probe(order["seconds"])
            case verb:
                return await self._load(verb, order["concurrency"], order["seconds"])

    async def _load(self, verb: str, concurrency: int, seconds: float) -> dict[str, Any]:
        latencies: list[float] = []
        errors: list[str] = []
        clock = time.perf_counter
        began, used = clock(), _cpu()
        until = began + seconds
        read = 0

        async def one_after_another() -> None:
            nonlocal read
            while (start := clock()) < until:
                try:
                    if verb == "put":
                        number, self._written = self._written, self._written + 1
                        await self._driver.put(f"k{number:09d}", VALUE)
                    else:
                        number, read = read, read + 1
                        _check(await self._driver.get(f"k{number % self._written:09d}"))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                    errors.append(repr(error))
                else:
                    latencies.append(clock() - start)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                _ = tasks.create_task(one_after_another())
        return {
            "seconds": clock() - began,
            "cpu": _cpu() - used,
            "latencies": latencies,
            "errors": len(errors),
            "first_errors": sorted(set(errors))[:3],
        }

    async def _probe(self, seconds: float) -> dict[str, Any]:
        """Begin a write every few milliseconds; when each that succeeded began and ended, on the machine's clock."""
        done: list[tuple[float, float]] = []
        pending: set[asyncio.Task[None]] = set()

        async def write(key: str) -> None:
            start = time.monotonic()
            with contextlib.suppress(Exception):
                await self._driver.put(key, VALUE)
                done.append((start, time.monotonic()))

        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            if len(pending) < PROBE_PENDING_MAX:
                number += 1
                task = asyncio.create_task(write(f"probe{number % 100}"))
                pending.add(task)
                task.add_done_callback(pending.discard)
            await asyncio.sleep(PROBE_EVERY_SECONDS)
        if pending:
            _ = await asyncio.wait(pending, timeout=10.0)
        return {"begun_ended": done}


def _check(value: bytes) -> None:
    if value != VALUE:
        raise ValueError("a value came back wrong")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
