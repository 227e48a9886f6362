"""Blocking work off the event loop, in lanes: one piece at a time and in order within a lane, lanes beside each other.

A node runs hundreds of groups; a thread each would cost more memory than the groups do. Lanes share a few threads and
take turns on them. A port: the simulator runs the same work on the loop itself, at the instants it chooses.

Invariants: pieces of one lane never overlap and run in the order of `submit`, whatever thread each runs on; a piece
that was submitted runs, also when nobody waits for it any more; results reach the event loop in the same order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Any, Protocol, TypeVar

import structlog

from dwd.base.errors import Unavailable

PIECES_A_TURN = 8
"""Of one lane, before other lanes get the thread."""

T = TypeVar("T")
_log = structlog.get_logger("dwd.runtime")


class Lane(Protocol):
    """Called on the event loop."""

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` after all submitted before. Giving the future up does not stop the work. Raises Unavailable once
        closed.
        """
        ...

    def close(self, last: Callable[[], object]) -> None:
        """Take nothing more; run `last` after all submitted before. Does not wait; a second call does nothing."""
        ...

    async def closed(self) -> None:
        """After `close`: once `last` has run."""
        ...


class Lanes(Protocol):
    """Called on the event loop."""

    def lane(self, name: str) -> Lane: ...

    async def run(self, work: Callable[[], T]) -> T:
        """Work that belongs to no lane."""
        ...

    async def close(self) -> None:
        """Once everything submitted has run."""
        ...


class ThreadLanes:
    """`Lanes` over a bounded pool of threads. Made on the event loop it serves."""

    def __init__(self, *, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._loop = asyncio.get_running_loop()

    def lane(self, name: str) -> ThreadLane:
        return ThreadLane(self._pool, self._loop, name)

    async def run(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._pool, work)

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown, wait=True)


class ThreadLane:
    def __init__(self, pool: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._pool = pool
        self._loop = loop
        self._name = name
        self._lock = Lock()
        self._queue: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._running = False
        self._last: asyncio.Future[Any] | None = None

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._last is not None:
            raise Unavailable("runtime.lane_closed", f"{self._name} takes no more work")
        return self._add(work)

    def close(self, last: Callable[[], object]) -> None:
        if self._last is None:
            self._last = self._add(last)
            self._last.add_done_callback(self._ended)

    async def closed(self) -> None:
        if self._last is not None:
            await asyncio.wait([self._last])

    def _add(self, work: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        with self._lock:
            self._queue.append((work, future))
            idle, self._running = not self._running, True
        if idle:
            self._pool.submit(self._take_turn)
        return future

    def _take_turn(self) -> None:
        """Worker thread. With the pool shut down nobody else wants the thread: the turn goes on to the end."""
        while True:
            for _ in range(PIECES_A_TURN):
                with self._lock:
                    if not self._queue:
                        self._running = False
                        return
                    work, future = self._queue.popleft()
                self._do(work, future)
            with suppress(RuntimeError):
                self._pool.submit(self._take_turn)
                return

    def _do(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever holds the future
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(_settle, future, result, failure)

    def _ended(self, last: asyncio.Future[Any]) -> None:
        error = None if last.cancelled() else last.exception()
        if error is not None:
            _log.warning("the last work of a lane failed", lane=self._name, error=repr(error))


def _settle(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
