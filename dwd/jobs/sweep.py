"""Tells shards which jobs are over: late runners find their fence closed, and no shard remembers jobs for ever."""

from __future__ import annotations

from dwd.base.clock import Clock
from dwd.base.ids import JobId
from dwd.jobs.ports import JobMeta
from dwd.meta.core.control.job_queries import ListJobs
from dwd.meta.core.shard.commands import SweepFences
from dwd.meta.core.shard.queries import GetFences
from dwd.runtime.worker import Progress

ASK_SECONDS = 10.0


class FenceSweeper:
    """Of the shards led here. Looks at a shard only after a job began or ended, or when it comes to lead it."""

    name = "jobs.sweep"
    idle_seconds = 20.0

    def __init__(self, *, meta: JobMeta, clock: Clock) -> None:
        self._meta = meta
        self._clock = clock
        self._told: dict[int, JobId] = {}
        """Of each shard led here, the floor it has at least."""

    async def work(self) -> Progress:
        led = [group for group in self._meta.shards() if self._meta.leads(group)]
        self._told = {group: self._told[group] for group in led if group in self._told}
        deadline = self._clock.monotonic() + ASK_SECONDS
        if not led:
            return Progress.IDLE
        page = await self._meta.read(ListJobs(over=True, limit=1), deadline=deadline)
        newest = page.jobs[0].job if page.jobs else JobId(0)
        live = {row.job for row in (await self._meta.read(ListJobs(), deadline=deadline)).jobs}
        below = JobId(min([*live, newest + 1]))
        for group in led:
            if self._told.get(group, JobId(-1)) >= below and not live:
                continue
            known = await self._meta.read_group(group, GetFences(), deadline=deadline)
            over = tuple(f.job for f in known.fences if f.job >= below and f.job not in live)
            if over or known.floor < below:
                _ = await self._meta.shard(group, SweepFences(over=over, below=below), deadline=deadline)
            self._told[group] = below
        return Progress.IDLE
