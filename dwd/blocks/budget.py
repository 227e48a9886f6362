"""Bytes that may be under way at once: who comes too early waits, in order, until its own deadline.

Refusing instead would make a busy device look like a broken one: writes would go elsewhere, reads would be degraded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dwd.base.clock import Clock
from dwd.base.errors import Busy, DeadlineExceeded

WAITING_MAX = 4_096


class ByteBudget:
    """Owned by one event loop. A request larger than `limit` is let through alone."""

    def __init__(self, clock: Clock, limit: int, *, waiting_max: int = WAITING_MAX) -> None:
        self._clock, self._limit, self._waiting_max = clock, limit, waiting_max
        self._used = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @property
    def used(self) -> int:
        return self._used

    @asynccontextmanager
    async def holding(self, size: int, *, deadline: float) -> AsyncIterator[None]:
        """Raises DeadlineExceeded, and Busy when too many wait already."""
        if self._waiting or not self._fits(size):
            await self._wait(size, deadline)
        else:
            self._used += size
        try:
            yield
        finally:
            self._used -= size
            self._admit()

    async def _wait(self, size: int, deadline: float) -> None:
        if len(self._waiting) >= self._waiting_max:
            raise Busy("blocks.budget_queue", f"{len(self._waiting)} requests wait for their turn")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (turn, size)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._used -= size  # its turn came as it gave up
            else:
                self._waiting.remove(entry)
            self._admit()
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("blocks.deadline", "no turn came in time") from error
            raise

    def _fits(self, size: int) -> bool:
        return not self._used or self._used + size <= self._limit

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            turn, size = self._waiting.popleft()
            self._used += size
            turn.set_result(None)
