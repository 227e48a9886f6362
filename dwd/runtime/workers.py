"""Runs the background workers of a node: when each works, how fast, what happens when it fails, what operators see.

Invariants:
* a worker's `work` never runs twice at once;
* a wake-up is never lost: one that comes while the worker works makes it run again;
* waking ends an idle rest only. The pauses of pace, throttling and back-off are kept, however often somebody wakes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from enum import Enum

import structlog

from dwd.base.clock import Clock, Rng
from dwd.base.errors import (
    DeadlineExceeded,
    DwError,
    InvariantViolation,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from dwd.observability import metrics
from dwd.runtime.pacing import PACE_DEFAULT, Pacer
from dwd.runtime.tasks import Tasks
from dwd.runtime.worker import Progress, Worker

THROTTLED_SECONDS = 1.0
BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 60.0
BACKOFF_DOUBLINGS_MAX = 7
"""0.5 s doubled seven times passes the maximum; counting further would only overflow."""
QUIET_FAILURES = 4
"""A peer or leader that does not answer is worth a warning only after so many failures in a row: some seconds of
back-off, in which a restart or an election ends.
"""

_RUNS = metrics.counter("dwd.runtime.worker.runs", "Pieces of background work, by outcome", "{run}")
_SECONDS = metrics.histogram("dwd.runtime.worker.duration", "Time of one piece of background work", "s")
_log = structlog.get_logger("dwd.runtime")


class WorkerState(Enum):
    WAITING = "waiting"
    """Not run yet."""
    WORKING = "working"
    RESTING = "resting"
    """There is more to do; the pace says rest."""
    THROTTLED = "throttled"
    IDLE = "idle"
    BACKING_OFF = "backing_off"
    """The last run failed; it will be tried again."""
    PAUSED = "paused"
    FAILED = "failed"
    """An invariant is violated: it does not run again in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """What `dwctl worker list` shows. Times are Unix milliseconds, 0 for never."""

    name: str
    state: WorkerState
    pace: float
    """Seconds of rest for each second of work."""
    runs: int
    failures: int
    failures_in_row: int
    last_run_ms: int
    last_error: str
    last_error_ms: int


class WorkerRunner:
    """All workers of one node, each on one task of `tasks`. Not thread-safe: call it on the event loop.

    An InvariantViolation in a worker ends its task, so the owner of `tasks` hears of it and decides about the node.
    """

    def __init__(self, tasks: Tasks, clock: Clock, rng: Rng) -> None:
        self._tasks = tasks
        self._clock = clock
        self._rng = rng
        self._runs: dict[str, _Run] = {}

    def add(self, worker: Worker, *, pace: float = PACE_DEFAULT) -> None:
        """Start running `worker`. Raises InvariantViolation when the name is taken."""
        if worker.name in self._runs:
            raise InvariantViolation(f"two workers are called {worker.name}")
        run = _Run(worker=worker, pacer=Pacer(pace))
        run.task = self._tasks.spawn(self._loop(run), name=worker.name)
        self._runs[worker.name] = run

    async def remove(self, name: str) -> None:
        """Stop and forget a worker; returns once it has ended. Raises NotFound."""
        run = self._run(name)
        del self._runs[name]
        if run.task is not None:
            run.task.cancel()
            await asyncio.wait({run.task})

    def wake(self, name: str) -> None:
        """There may be something to do. Raises NotFound."""
        run = self._run(name)
        run.woken = True
        run.signal.set()

    def pause(self, name: str) -> None:
        """No further piece of work until `resume`; the one under way ends normally. Raises NotFound."""
        run = self._run(name)
        run.paused = True
        run.signal.set()

    def resume(self, name: str) -> None:
        """Undo `pause`; works at once. Raises NotFound."""
        run = self._run(name)
        run.paused = False
        run.signal.set()

    def set_pace(self, name: str, pace: float) -> None:
        """0 for full speed, n for n seconds of rest for each second of work. Raises NotFound."""
        self._run(name).pacer.set_pace(pace)

    def snapshot(self) -> tuple[WorkerStatus, ...]:
        """All workers, by name."""
        return tuple(self._runs[name].status() for name in sorted(self._runs))

    def _run(self, name: str) -> _Run:
        run = self._runs.get(name)
        if run is None:
            raise NotFound(
                "worker.not_found", f"no worker is called {name[:80]!r}", hint="`dwctl worker list` names them"
            )
        return run

    async def _loop(self, run: _Run) -> None:
        while True:
            await self._hold_while_paused(run)
            run.woken = False
            began = self._clock.monotonic()
            progress = await self._work_once(run)
            seconds = self._clock.monotonic() - began
            _SECONDS.record(seconds, worker=run.worker.name)
            match progress:
                case None:
                    await self._rest(run, WorkerState.BACKING_OFF, self._backoff_seconds(run.failures_in_row))
                case Progress.BUSY:
                    await self._rest(run, WorkerState.RESTING, run.pacer.pause_after(seconds))
                case Progress.THROTTLED:
                    await self._rest(run, WorkerState.THROTTLED, THROTTLED_SECONDS * self._rng.uniform(0.5, 1.5))
                case Progress.IDLE:
                    await self._rest(run, WorkerState.IDLE, run.worker.idle_seconds)

    async def _work_once(self, run: _Run) -> Progress | None:
        """One call of `work`; None when it failed."""
        run.state = WorkerState.WORKING
        run.runs += 1
        run.last_run_ms = self._clock.unix_ms()
        try:
            progress = await run.worker.work()
        except InvariantViolation as error:
            run.failed(error, self._clock.unix_ms())
            run.state = WorkerState.FAILED
            raise
        except DwError as error:
            run.failed(error, self._clock.unix_ms())
            log = _log.info if _passes(error) and run.failures_in_row <= QUIET_FAILURES else _log.warning
            log("worker failed", worker=run.worker.name, code=error.code, error=error.message)
            return None
        except Exception as error:  # noqa: BLE001 - a bug in one worker must neither end it nor be silent
            run.failed(error, self._clock.unix_ms())
            _log.exception("worker met an unexpected error", worker=run.worker.name)
            return None
        run.failures_in_row = 0
        _RUNS.add(worker=run.worker.name, outcome=progress.value)
        return progress

    def _backoff_seconds(self, failures_in_row: int) -> float:
        doublings = min(failures_in_row - 1, BACKOFF_DOUBLINGS_MAX)
        full = min(BACKOFF_SECONDS_MIN * float(1 << doublings), BACKOFF_SECONDS_MAX)
        return full * self._rng.uniform(0.5, 1.0)

    async def _hold_while_paused(self, run: _Run) -> None:
        while run.paused:
            run.state = WorkerState.PAUSED
            run.signal.clear()
            await run.signal.wait()

    async def _rest(self, run: _Run, state: WorkerState, seconds: float) -> None:
        """Until `seconds` are over, the worker is paused, or (when idle) woken. Yields to the loop in any case."""
        run.state = state
        until = self._clock.monotonic() + seconds
        await asyncio.sleep(0)
        while not run.paused and not (run.woken and state is WorkerState.IDLE):
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            run.signal.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await run.signal.wait()


def _passes(error: DwError) -> bool:
    """Somebody else does not answer, as when a node stops: usually over soon."""
    return isinstance(error, Unavailable | DeadlineExceeded | OutcomeUnknown)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One worker and what is known of it."""

    worker: Worker
    pacer: Pacer
    task: asyncio.Task[None] | None = None
    signal: asyncio.Event = field(default_factory=asyncio.Event)
    state: WorkerState = WorkerState.WAITING
    paused: bool = False
    woken: bool = False
    runs: int = 0
    failures: int = 0
    failures_in_row: int = 0
    last_run_ms: int = 0
    last_error: str = ""
    last_error_ms: int = 0

    def failed(self, error: Exception, unix_ms: int) -> None:
        self.failures += 1
        self.failures_in_row += 1
        self.last_error = str(error) or type(error).__name__
        self.last_error_ms = unix_ms
        _RUNS.add(worker=self.worker.name, outcome="failed")

    def status(self) -> WorkerStatus:
        return WorkerStatus(
            name=self.worker.name,
            state=self.state,
            pace=self.pacer.pace,
            runs=self.runs,
            failures=self.failures,
            failures_in_row=self.failures_in_row,
            last_run_ms=self.last_run_ms,
            last_error=self.last_error,
            last_error_ms=self.last_error_ms,
        )
