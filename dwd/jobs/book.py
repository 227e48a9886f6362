"""Jobs as operators deal with them: plan, start, look, watch, ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, NotFound
from dwd.base.ids import JobId, job_name
from dwd.jobs.kinds import JobKind, JobPlan
from dwd.jobs.ports import JobMeta
from dwd.meta.core.control.job_commands import AskJob, CreateJob
from dwd.meta.core.control.job_queries import NEWEST, GetJob, JobsAnswer, ListJobs
from dwd.meta.core.control.job_rows import JobRow, JobWish, arguments_of, plan_hash
from dwd.meta.core.control.state import Part

WATCH_SECONDS = 5.0
"""A watcher looks at the row at least so often, changed or not: it may have been told too early."""


class JobBook:
    """One a node. Every call raises what proposing or asking raises, besides what it names."""

    def __init__(self, *, meta: JobMeta, kinds: Iterable[JobKind], clock: Clock) -> None:
        self._meta = meta
        self._kinds = {kind.name: kind for kind in kinds}
        self._clock = clock

    async def plan(self, kind: str, arguments: Mapping[str, str], *, force: bool) -> tuple[JobPlan, str]:
        """The plan and its hash. Raises NotFound job.no_such_kind and what the kind's `plan` raises."""
        found = self._kinds.get(kind)
        if found is None:
            raise NotFound(
                "job.no_such_kind",
                f"there is no kind of job {kind[:64]!r}",
                hint=f"there are: {', '.join(sorted(self._kinds))}",
            )
        plan = await found.plan(arguments, force=force)
        return plan, plan_hash(kind, arguments_of(arguments), plan)

    async def start(
        self, kind: str, arguments: Mapping[str, str], *, agreed: str, force: bool, asked_by: str, deadline: float
    ) -> tuple[JobId, bool]:
        """The job's id, and whether it was live already. `agreed`: the hash of the plan that was shown; empty: none
        was, whatever is planned now will do. Raises Conflict job.plan_changed.
        """
        plan, found = await self.plan(kind, arguments, force=force)
        if agreed not in {"", found}:
            raise Conflict(
                "job.plan_changed", "the plan is no longer the one that was shown", hint="look at it anew, then start"
            )
        command = CreateJob(kind=kind, arguments=arguments_of(arguments), plan=plan, plan_hash=found, asked_by=asked_by)
        receipt = await self._meta.control(command, deadline=deadline)
        return JobId(receipt.count), receipt.existed

    async def get(self, job: JobId, *, deadline: float) -> JobRow:
        """Linearizable. Raises NotFound."""
        found = (await self._meta.read(GetJob(job=job), deadline=deadline)).job
        if found is None:
            raise NotFound(
                "job.not_found", f"there is no job {job_name(job)}", hint="`dwctl job list --all` shows them"
            )
        return found

    async def page(
        self, *, over: bool, kind: str = "", before: JobId = NEWEST, limit: int, deadline: float
    ) -> JobsAnswer:
        """Newest first."""
        return await self._meta.read(ListJobs(over=over, kind=kind, before=before, limit=limit), deadline=deadline)

    def live(self) -> tuple[JobRow, ...]:
        """As this node's copy of control has them."""
        return self._meta.view.live_jobs()

    async def ask(self, job: JobId, wish: JobWish, *, deadline: float) -> JobRow:
        """Raises NotFound; Conflict job.over, job.cancelling."""
        _ = await self._meta.control(AskJob(job=job, wish=wish), deadline=deadline)
        return await self.get(job, deadline=deadline)

    async def watch(self, job: JobId, *, deadline: float) -> AsyncIterator[JobRow]:
        """The row as it is, then whenever it changed; ends once the job is over, or at `deadline`. Raises NotFound."""
        last = await self.get(job, deadline=deadline)
        yield last
        changed = asyncio.Event()
        stop = self._meta.view.watch(changed.set, frozenset({Part.JOBS}))
        try:
            while not last.over and self._clock.monotonic() < deadline:
                found = self._meta.view.job(job)
                if found is not None and (found.updated, found.epoch) > (last.updated, last.epoch):
                    last = found
                    yield last
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SECONDS):
                        await changed.wait()
                changed.clear()
        finally:
            stop()
