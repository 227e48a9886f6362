"""An event loop whose time jumps to the next timer instead of passing, and a clock and dice that go with it.

Hours of back-off run in milliseconds and always the same way. Work for threads (`asyncio.to_thread`) runs on the loop
itself, `work_seconds()` later. Each callback may belong to a `Life`, by the context it was scheduled in: once that life
is over nothing of it runs any more, as if its process had been killed.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import math
import random  # noqa: TID251 - the seeded twin of dwd.base.clock.Rng
import sys
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH_MS = 1_700_000_000_000
STANDSTILL_CALLBACKS_MAX = 2_000_000
"""Run at one instant; more means that two parties keep each other busy for ever."""


class Life:
    """Of one process in the simulation."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.over = False
        self.paused: list[events.Handle] | None = None
        """What waits while the process stands still."""


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what is ready, then what is due first; equal times in order of scheduling."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._runnable: deque[events.Handle] = deque()
        self._timers: list[tuple[float, int, events.TimerHandle]] = []
        self._scheduled_count = 0
        self._standing = 0
        self.work_seconds: Callable[[], float] = lambda: 0.0
        """How long the next work of a thread takes."""
        self.callbacks_run = 0

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass without anything happening, as when the process is paused."""
        self._now += seconds

    def until_tick(self, seconds: float, grid_seconds: float) -> float:
        """From now to the first instant of the grid that is at least `seconds` away: what ends at about the same time
        ends together, as a busy process sees it.
        """
        return math.ceil((self._now + seconds) / grid_seconds) * grid_seconds - self._now

    def pause(self, life: Life) -> None:
        """Nothing of it runs until `resume`."""
        life.paused = []

    def resume(self, life: Life) -> None:
        waiting, life.paused = life.paused or [], None
        self._runnable.extend(waiting)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        self._runnable.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        handle = events.TimerHandle(when, callback, args, self, context)
        self._scheduled_count += 1
        heapq.heappush(self._timers, (when, self._scheduled_count, handle))
        return handle

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """On the loop, later. `executor` is not used."""
        future: asyncio.Future[T] = self.create_future()
        self.call_later(self.work_seconds(), self._work, future, func, args)
        return future

    def _work(self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    def _run_once(self) -> None:
        runnable = self._runnable
        if not runnable and not self._stopping:  # type: ignore[attr-defined]
            self._advance()
        for _ in range(len(runnable)):
            handle = runnable.popleft()
            if handle._cancelled:  # type: ignore[attr-defined]
                continue
            life = handle._context.get(LIFE)  # type: ignore[attr-defined]
            if life is not None and life.paused is not None:
                life.paused.append(handle)
            elif life is None or not life.over:
                self.callbacks_run += 1
                handle._run()
        self._standing += 1
        if self._standing > STANDSTILL_CALLBACKS_MAX:
            raise RuntimeError(f"time stands still at {self._now}")

    def _advance(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise RuntimeError("nothing will ever happen: everybody waits without a timer")
        if timers[0][0] > self._now:
            self._now = timers[0][0]
            self._standing = 0
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                self._runnable.append(handle)

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """It is skipped when it comes up."""

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """Whoever owns a generator closes it; what is left belongs to processes that died in the middle of it."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who could be woken."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""


class VirtualClock:
    """`dwd.base.clock.Clock` over the running loop's time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def unix_ms(self) -> int:
        return EPOCH_MS + int(self.monotonic() * 1000)


class SeededRng:
    """`dwd.base.clock.Rng` that draws the same every time."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def bits(self, count: int) -> int:
        return self._random.getrandbits(count)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on a VirtualLoop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def run_mortally(main: Coroutine[Any, Any, T]) -> T:
    """As `run_virtually`, where lives end: what the dead left undone is dropped, not waited for."""
    loop = VirtualLoop()
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        asyncio.set_event_loop(loop)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # coroutines of processes that died before they began
            try:
                return loop.run_until_complete(main)
            finally:
                bury(loop)
                asyncio.set_event_loop(None)
                gc.collect(0)
    finally:
        sys.unraisablehook = hook


def bury(loop: VirtualLoop) -> None:
    """Processes that died left tasks that will never run again."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine: Any = task.get_coro()
        with suppress(BaseException):
            coroutine.close()
    loop.close()
