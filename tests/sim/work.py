"""Threads of the daemon as events of virtual time: lanes, and workers with a mailbox. Each piece runs on the loop,
whole, after the time it is said to take. What a process that lost its power was doing is never finished.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from dwd.base.errors import Unavailable
from dwd.runtime.mailbox import Mailbox, Turn
from tests.sim.disk import PowerLost

T = TypeVar("T")

Seconds = Callable[[], float]
"""How long the next piece takes."""


class SimLanes:
    """`dwd.runtime.serial.Lanes`."""

    def __init__(self, seconds: Seconds) -> None:
        self._seconds = seconds
        self._loose = SimLane(seconds)

    def lane(self, name: str) -> SimLane:
        del name
        return SimLane(self._seconds)

    async def run(self, work: Callable[[], T]) -> T:
        return await self._loose.submit(work)

    async def close(self) -> None:
        self._loose.close(lambda: None)
        await self._loose.closed()


class SimLane:
    """`dwd.runtime.serial.Lane`."""

    def __init__(self, seconds: Seconds) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._busy = False
        self._last: asyncio.Future[Any] | None = None

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._last is not None:
            raise Unavailable("runtime.lane_closed", "the lane takes no more work")
        return self._add(work)

    def close(self, last: Callable[[], object]) -> None:
        if self._last is None:
            self._last = self._add(last)

    async def closed(self) -> None:
        if self._last is not None:
            await asyncio.wait([self._last])

    def _add(self, work: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append((work, future))
        if not self._busy:
            self._busy = True
            self._loop.call_later(self._seconds(), self._do)
        return future

    def _do(self) -> None:
        work, future = self._queue.popleft()
        try:
            result = work()
        except PowerLost:
            return
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever holds the future
            if not future.done():
                future.set_exception(error)
                future.exception()
        else:
            if not future.done():
                future.set_result(result)
        if self._queue:
            self._loop.call_later(self._seconds(), self._do)
        else:
            self._busy = False


class SimMailboxes:
    """`dwd.runtime.mailbox.StartWorker`."""

    def __init__(self, seconds: Seconds) -> None:
        self._seconds = seconds

    def __call__(self, name: str, turn: Turn[T]) -> Mailbox[T]:
        del name
        return _SimMailbox(self._seconds, turn)


class _SimMailbox:
    def __init__(self, seconds: Seconds, turn: Turn[Any]) -> None:
        self._seconds = seconds
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._busy = False

    def put(self, item: Any) -> None:
        self._items.append(item)
        if not self._busy:
            self._busy = True
            self._loop.call_later(self._seconds(), self._work)

    def _work(self) -> None:
        try:
            goes_on = self._turn(self._items.popleft(), self._more)
        except PowerLost:
            return
        self._busy = False
        if goes_on and self._items:
            self._busy = True
            self._loop.call_later(self._seconds(), self._work)

    def _more(self) -> Any:
        if not self._items:
            raise queue.Empty
        return self._items.popleft()
