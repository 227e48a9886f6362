"""Runs jobs on this node: leases those that wait, works through their steps, gives them back when the node stops.

Every node has one. A lease is kept by reports and, while a step waits, in the background; who dies or stands still
loses it, and another node goes on at the same step, from the last cursor that was written. Nothing a former runner
still sends takes effect (dwd.meta.core.fencing).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

import structlog

from dwd.base.clock import Clock, Rng
from dwd.base.errors import Conflict, DwError, NotFound
from dwd.base.ids import GroupId, JobId, NodeId, job_name
from dwd.jobs.core.spread import leasable, turn_seconds
from dwd.jobs.kinds import JobKind, LeaseLost
from dwd.jobs.leased import JobOptions, LeasedJob
from dwd.jobs.ports import JobMeta
from dwd.meta.core.control.job_commands import LeaseJob
from dwd.meta.core.control.job_rows import JobRow, JobState
from dwd.meta.core.control.rows import Liveness
from dwd.meta.core.fencing import FENCED
from dwd.observability import metrics
from dwd.runtime.tasks import Tasks
from dwd.runtime.worker import Progress

GIVE_BACK_SECONDS = 2.0
HOLD_SECONDS = 5.0
"""How long a new runner waits for shards to shut out its predecessor."""
DOUBLINGS_MAX = 8

_ENDED = metrics.counter("dwd.jobs.ended", "Jobs that a runner of this node ended, by kind and state", "{job}")
_LEASES = metrics.counter("dwd.jobs.leases", "Leases of jobs taken by this node, by kind", "{lease}")
_LOST = metrics.counter(
    "dwd.jobs.leases_lost", "Leases that this node lost or gave back before the job's end", "{lease}"
)
_log = structlog.get_logger("dwd.jobs")


class JobRunner:
    """A worker (`dwd.runtime.worker`) that starts one task a job. `tasks` is its own, closed before metadata is."""

    name = "jobs.runner"
    idle_seconds = 1.0

    def __init__(
        self,
        *,
        node: NodeId,
        meta: JobMeta,
        kinds: Iterable[JobKind],
        tasks: Tasks,
        clock: Clock,
        rng: Rng,
        options: JobOptions | None = None,
    ) -> None:
        self._node = node
        self._meta = meta
        self._kinds = {kind.name: kind for kind in kinds}
        self._tasks = tasks
        self._clock = clock
        self._rng = rng
        self._options = options or JobOptions()
        self._running: dict[JobId, LeasedJob] = {}
        self._seen: dict[tuple[JobId, int], float] = {}
        """Since when a job could be leased, by its epoch."""

    async def work(self) -> Progress:
        rows = self._meta.view.live_jobs()
        self._look_after(rows)
        for row in self._mine(rows):
            if len(self._running) >= self._options.at_once:
                break
            await self._take(row)
        return Progress.IDLE

    def running(self) -> tuple[JobId, ...]:
        return tuple(self._running)

    def _look_after(self, rows: Iterable[JobRow]) -> None:
        """What this node runs and the rows no longer give it. A row that is older than the lease says nothing."""
        known = {row.job: row for row in rows}
        for job in self._running.values():
            row = known.get(job.id)
            if row is None:
                job.lose("is over")
            elif row.epoch > job.fence.epoch:
                job.lose(f"is {row.state.name.lower()}" if not row.runner else "is run by another node")

    def _mine(self, rows: tuple[JobRow, ...]) -> list[JobRow]:
        """Jobs that this node should ask for now."""
        now, now_ms = self._clock.monotonic(), self._clock.unix_ms()
        up = {row.node for row in self._meta.view.topology().nodes if row.liveness is Liveness.UP}
        free = [
            row
            for row in rows
            if row.kind in self._kinds and row.job not in self._running and leasable(row, self._node, now_ms, up)
        ]
        self._seen = {(row.job, row.epoch): self._seen.get((row.job, row.epoch), now) for row in free}
        return [
            row
            for row in free
            if now - self._seen[row.job, row.epoch] >= turn_seconds(row, self._node, rows=rows, up=up)
        ]

    async def _take(self, row: JobRow) -> None:
        asked_at = self._clock.monotonic()
        command = LeaseJob(job=row.job, node=self._node, lease_ms=int(self._options.lease * 1000))
        try:
            receipt = await self._meta.control(command, deadline=asked_at + self._options.propose)
        except (Conflict, NotFound):
            return  # another was faster, or an operator
        job = LeasedJob(row, receipt.count, meta=self._meta, clock=self._clock, options=self._options)
        self._running[row.job] = job
        _LEASES.add(kind=row.kind)
        _log.info(
            "job taken", job=job_name(row.job), kind=row.kind, step=row.step_name, epoch=receipt.count,
            attempt=row.attempts + 1,
        )  # fmt: skip
        _ = self._tasks.spawn(self._run(job, taken_over=row.attempts > 0), name=job_name(row.job))

    async def _run(self, job: LeasedJob, *, taken_over: bool) -> None:
        """To the job's end, or the lease's."""
        body = self._tasks.spawn(self._body(job, taken_over=taken_over), name=f"{job_name(job.id)} steps")
        try:
            await self._keep(job, body)
        finally:
            body.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                _ = await asyncio.wait({body})
            if not job.lost:
                await self._give_back(job)
            del self._running[job.id]

    async def _keep(self, job: LeasedJob, body: asyncio.Task[None]) -> None:
        """Keep the lease until the body ends, which is ended when the lease is lost or the step stands still."""
        while not body.done():
            _ = await asyncio.wait({body}, timeout=self._options.keep)
            if body.done():
                return
            try:
                await job.keep()
            except LeaseLost:
                pass
            except DwError as error:
                _log.warning("a job's report was refused", job=job_name(job.id), error=str(error))
            if job.lost:
                _LOST.add(kind=job.kind)
                _log.info("job left", job=job_name(job.id), kind=job.kind, why=job.lost)
                return
            if job.silent_seconds > self._options.stall:
                _log.warning("a step stands still", job=job_name(job.id), kind=job.kind, step=job.step_name)
                return

    async def _give_back(self, job: LeasedJob) -> None:
        _LOST.add(kind=job.kind)
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await job.give_back(seconds=GIVE_BACK_SECONDS)
        except (DwError, TimeoutError) as error:
            _log.info("a job could not be given back, its lease lapses", job=job_name(job.id), error=str(error))
        else:
            _log.info("job given back", job=job_name(job.id), kind=job.kind, step=job.step_name)

    async def _body(self, job: LeasedJob, *, taken_over: bool) -> None:
        """The steps, the verification, the end."""
        kind = self._kinds[job.kind]
        ended = JobState.DONE
        failure: DwError | None = None
        try:
            if taken_over:
                await self._shut_out(job)
            if job.cancelling:
                ended = JobState.CANCELLED
                await self._insist(job, lambda: kind.cancelled(job))
            else:
                while job.step < len(job.plan.steps):
                    await self._insist(job, lambda: kind.run(job))
                    await self._insist(job, job.next_step)
                await self._insist(job, lambda: kind.verify(job))
        except LeaseLost:
            return
        except DwError as error:
            ended, failure = JobState.FAILED, error
        except Exception as error:  # noqa: BLE001 - a bug in one kind must neither end the runner nor be silent
            _log.exception("a step met an unexpected error", job=job_name(job.id), kind=job.kind, step=job.step_name)
            told = f"{type(error).__name__}: {error}"
            ended, failure = JobState.FAILED, DwError("job.unexpected", told, hint="the runner's log says more")
        await self._end(job, ended, failure)

    async def _end(self, job: LeasedJob, state: JobState, failure: DwError | None) -> None:
        try:
            await self._insist(job, lambda: job.finish(state, failure))
        except LeaseLost:
            return
        _ENDED.add(kind=job.kind, state=state.name.lower())
        log = _log.info if failure is None else _log.warning
        log(
            "job ended", job=job_name(job.id), kind=job.kind, state=state.name.lower(),
            step=job.step_name, error="" if failure is None else str(failure),
        )  # fmt: skip

    async def _shut_out(self, job: LeasedJob) -> None:
        """Have every shard know this lease, so that a predecessor that wakes is refused at once everywhere. A shard
        that does not answer learns of it with the first command that the job sends there.
        """

        async def hold(group: GroupId) -> None:
            with contextlib.suppress(DwError, TimeoutError):
                async with asyncio.timeout(HOLD_SECONDS):
                    await job.hold(group)

        async with asyncio.TaskGroup() as group_tasks:
            for group in self._meta.shards():
                _ = group_tasks.create_task(hold(group))

    async def _insist(self, job: LeasedJob, act: Callable[[], Awaitable[None]]) -> None:
        """`act`, again and again while what goes wrong may pass; the reason shows as the blocker. Raises the rest, and
        LeaseLost.
        """
        failures, before = 0, job.progress
        while True:
            try:
                return await act()
            except LeaseLost:
                raise
            except DwError as error:
                if error.code == FENCED:
                    raise LeaseLost(error.code, error.message) from error
                if not error.retryable:
                    raise
                failures = 1 if job.progress != before else failures + 1
                before = job.progress
                _log.info("a step is tried again", job=job_name(job.id), kind=job.kind, error=str(error))
                await job.report(blocker=f"{error.message}; tried again")
            await job.wait(self._pause_seconds(failures))

    def _pause_seconds(self, failures: int) -> float:
        full = self._options.retry_min * float(1 << min(failures - 1, DOUBLINGS_MAX))
        return min(full, self._options.retry_max) * self._rng.uniform(0.5, 1.0)
