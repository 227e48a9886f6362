"""A kind of job whose every effect is seen: each step does `each` pieces, one a report, in control and in a shard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from dwd.base.ids import GroupId
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.meta.core.control.commands import SetSetting
from dwd.meta.core.shard.commands import SealBucket
from tests.twins.job_cluster import JobCluster

STEPS = ("one", "two", "three")
Meet = Callable[[RunningJob], Awaitable[None]]


class Counting:
    """`meets`: what happens in each piece, once, before its effect."""

    name = "test.count"

    def __init__(self, *, each: int = 3, meets: Meet | None = None, verifies: Meet | None = None) -> None:
        self.each = each
        self.meets = meets
        self.verifies = verifies

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        return JobPlan(steps=STEPS, lines=("counts",), total=len(STEPS) * self.each, unit="pieces")

    async def run(self, job: RunningJob) -> None:
        for piece in range(int(job.cursor or b"0"), self.each):
            if self.meets is not None:
                await self.meets(job)
            await job.control(SetSetting(name=f"piece.{job.step}.{piece}", value="done"))
            await job.shard(GroupId(1 + piece % 2), SealBucket(bucket=f"b{job.step}-{piece}", bucket_epoch=1))
            done = job.step * self.each + piece + 1
            await job.report(done=done, cursor=b"%d" % (piece + 1))

    async def verify(self, job: RunningJob) -> None:
        if self.verifies is not None:
            await self.verifies(job)
        job.conclude("counted")

    async def cancelled(self, job: RunningJob) -> None:
        await job.control(SetSetting(name="undone", value="yes"))


def pieces(cluster: JobCluster) -> set[str]:
    """What was done, as control has it."""
    rows = cluster.machines[GroupId(0)].tx.rows("SELECT name FROM settings WHERE name LIKE 'piece.%'")
    return {name for (name,) in rows}


def all_pieces(each: int) -> set[str]:
    return {f"piece.{step}.{piece}" for step in range(len(STEPS)) for piece in range(each)}
