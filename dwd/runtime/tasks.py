"""Supervised tasks: every task has an owner, a name, a place its failure is reported to, and an end.

For work whose life is a scope, use `asyncio.TaskGroup`. `Tasks` is for work that outlives the call which starts it
(a stream per peer, a repair, a loop): its owner keeps one and closes it.

Invariants:
* a task that ends by an exception other than cancellation is reported exactly once, whether somebody awaits it or not;
* after `close` returned, every task either ended or was reported as one that did not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from dwd.base.errors import Busy, Unavailable

TASKS_MAX = 10_000
"""Per owner. Reaching it means a leak or an unlimited caller."""
CLOSE_SECONDS = 10.0
"""How long `close` waits for tasks that clean up; whoever needs longer must not do it in a cancelled task."""

T = TypeVar("T")


class Tasks:
    """Tasks of one owner. `on_failure(task_name, error)` runs on the event loop and must not block."""

    def __init__(
        self,
        name: str,
        on_failure: Callable[[str, BaseException], None],
        *,
        limit: int = TASKS_MAX,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        self._name = name
        self._on_failure = on_failure
        self._limit = limit
        self._close_seconds = close_seconds
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Start `coro`. Raises Unavailable once closed and Busy at the limit; `coro` then never runs."""
        if self._closed:
            coro.close()
            raise Unavailable("runtime.tasks_closed", f"{self._name} is shutting down; {name} was not started")
        if len(self._tasks) >= self._limit:
            coro.close()
            raise Busy("runtime.tasks_full", f"{self._name} has {self._limit} tasks; {name} was not started")
        task = asyncio.create_task(coro, name=f"{self._name}/{name}")  # noqa: TID251 - this is where the ban points to
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Refuse new tasks, cancel all, wait for them up to `close_seconds`. Safe to call again, and from a member."""
        self._closed = True
        waiting = self._tasks - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        if not waiting:
            return
        _, stuck = await asyncio.wait(waiting, timeout=self._close_seconds)
        for task in stuck:
            self._on_failure(
                task.get_name(), TimeoutError(f"did not end within {self._close_seconds:g} s of its cancel")
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._on_failure(task.get_name(), error)
