"""A job under a lease that nobody contests: for tests of one kind's steps, without a cluster."""

from __future__ import annotations

from collections.abc import Mapping

from dwd.base.ids import GroupId, JobId, LogIndex, Stamp
from dwd.jobs.kinds import JobKind, JobPlan
from dwd.meta.core.control.commands import ControlCommand
from dwd.meta.core.fencing import Fence
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import ShardCommand


class SoloJob:
    """`dwd.jobs.kinds.RunningJob`. What was proposed and reported is kept; proposals succeed."""

    def __init__(self, plan: JobPlan, arguments: Mapping[str, str], *, cursor: bytes = b"") -> None:
        self.id = JobId(1)
        self.plan = plan
        self.arguments = arguments
        self.step = 0
        self.cursor = cursor
        self.fence = Fence(job=self.id, epoch=1)
        self.done = self.total = 0
        self.blockers: list[str] = []
        self.reports = 0
        self.proposed: list[ControlCommand | tuple[GroupId, ShardCommand]] = []
        self.result = ""

    @property
    def step_name(self) -> str:
        return self.plan.steps[self.step] if self.step < len(self.plan.steps) else "verify"

    async def report(
        self,
        *,
        done: int | None = None,
        total: int | None = None,
        blocker: str = "",
        cursor: bytes | None = None,
        flush: bool = False,
    ) -> None:
        self.reports += 1
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self.cursor = self.cursor if cursor is None else cursor
        if blocker:
            self.blockers.append(blocker)

    async def wait(self, seconds: float) -> None:
        """No time passes."""

    async def control(self, command: ControlCommand) -> Receipt:
        self.proposed.append(command)
        return Receipt(index=LogIndex(1), stamp=Stamp(1))

    async def shard(self, group: GroupId, command: ShardCommand) -> Receipt:
        self.proposed.append((group, command))
        return Receipt(index=LogIndex(1), stamp=Stamp(1))

    async def hold(self, group: GroupId) -> None:
        """Nobody ran it before."""

    def conclude(self, result: str) -> None:
        self.result = result


async def carry_out(kind: JobKind, arguments: Mapping[str, str], *, force: bool = False) -> SoloJob:
    """Plan, every step, verify."""
    job = SoloJob(await kind.plan(arguments, force=force), arguments)
    for step in range(len(job.plan.steps)):
        job.step, job.cursor = step, b""
        await kind.run(job)
    job.step, job.cursor = len(job.plan.steps), b""
    await kind.verify(job)
    return job
