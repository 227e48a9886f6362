"""A job under this node's lease: what its steps see, and what keeps the lease.

Invariants:
* nothing is proposed for the job after the lease is known to be lost, nor after it may have lapsed by this node's own
  clock; what is on its way then is refused by its epoch;
* reports are written one after another, in the order they were made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, DwError, InvalidArgument
from dwd.base.ids import GroupId, JobId, job_name
from dwd.jobs.kinds import JobPlan, LeaseLost
from dwd.jobs.ports import JobMeta
from dwd.meta.core.control.commands import ControlCommand
from dwd.meta.core.control.job_commands import FinishJob, ReportJob
from dwd.meta.core.control.job_rows import JobRow, JobState
from dwd.meta.core.control.jobs import CURSOR_BYTES_MAX, RESULT_CHARACTERS_MAX
from dwd.meta.core.control.state import TEXT_CHARACTERS_MAX
from dwd.meta.core.fencing import FENCED, Fence
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import HoldFence, ShardCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """Times in seconds."""

    lease: float = 15.0
    keep: float = 1.0
    """Between looks at what is to be written."""
    renew: float = 4.0
    report: float = 1.0
    """Reports are written at most so often."""
    stall: float = 900.0
    """A step that neither reports nor proposes for so long is taken from this node."""
    propose: float = 10.0
    retry_min: float = 1.0
    retry_max: float = 30.0
    at_once: int = 4
    """Jobs run by one node side by side."""


class LeasedJob:
    """Implements `dwd.jobs.kinds.RunningJob`; the rest is the runner's."""

    def __init__(self, row: JobRow, epoch: int, *, meta: JobMeta, clock: Clock, options: JobOptions) -> None:
        self._row = row
        self._meta = meta
        self._clock = clock
        self._options = options
        self._arguments = {argument.name: argument.value for argument in row.arguments}
        self._step, self._done, self._total = row.step, row.done, row.total
        self._cursor, self._blocker, self._result = row.cursor, "", row.result
        self._writing = asyncio.Lock()
        self._changed = False
        self._written_at = self._heard_at = clock.monotonic()
        self._until = self._written_at + options.lease
        self._lost = ""
        self.fence = Fence(job=row.job, epoch=epoch)

    @property
    def id(self) -> JobId:
        return self._row.job

    @property
    def kind(self) -> str:
        return self._row.kind

    @property
    def arguments(self) -> Mapping[str, str]:
        return self._arguments

    @property
    def plan(self) -> JobPlan:
        return self._row.plan

    @property
    def cancelling(self) -> bool:
        return self._row.state is JobState.CANCELLING

    @property
    def step(self) -> int:
        return self._step

    @property
    def step_name(self) -> str:
        return self.plan.steps[self._step] if self._step < len(self.plan.steps) else "verify"

    @property
    def cursor(self) -> bytes:
        return self._cursor

    @property
    def progress(self) -> tuple[int, int, bytes]:
        """Moves when the job does."""
        return self._step, self._done, self._cursor

    async def report(
        self,
        *,
        done: int | None = None,
        total: int | None = None,
        blocker: str = "",
        cursor: bytes | None = None,
        flush: bool = False,
    ) -> None:
        self._require()
        if cursor is not None and len(cursor) > CURSOR_BYTES_MAX:
            raise InvalidArgument("job.cursor", f"a cursor has up to {CURSOR_BYTES_MAX} bytes, not {len(cursor)}")
        self._done = self._done if done is None else done
        self._total = self._total if total is None else total
        self._cursor = self._cursor if cursor is None else cursor
        self._blocker = " ".join(blocker.split())[:TEXT_CHARACTERS_MAX]
        self._changed = True
        self._heard_at = self._clock.monotonic()
        if flush:
            await self._write()
        elif self._heard_at - self._written_at >= self._options.report:
            await self._try_to_write()

    async def wait(self, seconds: float) -> None:
        self._require()
        await asyncio.sleep(seconds)
        self._heard_at = self._clock.monotonic()
        self._require()

    async def control(self, command: ControlCommand) -> Receipt:
        self._require()
        with _leaving(self):
            return await self._meta.control(command, deadline=self._deadline(), fence=self.fence)

    async def shard(self, group: GroupId, command: ShardCommand) -> Receipt:
        self._require()
        with _leaving(self):
            return await self._meta.shard(group, command, deadline=self._deadline(), fence=self.fence)

    async def hold(self, group: GroupId) -> None:
        _ = await self.shard(group, HoldFence())

    def conclude(self, result: str) -> None:
        self._result = result[:RESULT_CHARACTERS_MAX]

    async def next_step(self) -> None:
        """The step is done: whoever goes on begins with the one after it."""
        self._require()
        self._step += 1
        self._cursor, self._blocker, self._changed = b"", "", True
        await self._write()

    async def finish(self, state: JobState, error: DwError | None = None) -> None:
        """Raises what proposing raises; LeaseLost also when an earlier try took effect."""
        self._require()
        command = FinishJob(
            job=self.id,
            epoch=self.fence.epoch,
            state=state,
            result=self._result if state is JobState.DONE else "",
            error_code="" if error is None else error.code[:TEXT_CHARACTERS_MAX],
            error="" if error is None else _told(error),
        )
        async with self._writing:
            with _leaving(self):
                await self._meta.control(command, deadline=self._deadline())
            self._lost = "is over"

    async def keep(self) -> None:
        """Write what was reported, or renew the lease, when it is time. Raises LeaseLost."""
        self._require()
        since = self._clock.monotonic() - self._written_at
        if since >= (self._options.report if self._changed else self._options.renew):
            await self._try_to_write()

    async def give_back(self, *, seconds: float) -> None:
        """Another node may go on at once. Raises what proposing raises."""
        self._require()
        self._lost = "was given back"
        async with self._writing:
            await self._meta.control(self._command(lease_ms=0), deadline=self._clock.monotonic() + seconds)

    def lose(self, why: str) -> None:
        """`why` completes "job j142 ..."."""
        self._lost = self._lost or why

    @property
    def lost(self) -> str:
        """Why it is no longer this node's to run; empty while it is."""
        if not self._lost and self._clock.monotonic() >= self._until:
            self._lost = "could not be kept: nobody took its reports"
        return self._lost

    @property
    def silent_seconds(self) -> float:
        """Since the step last said or did something."""
        return self._clock.monotonic() - self._heard_at

    def _require(self) -> None:
        if self.lost:
            raise LeaseLost(FENCED, f"job {job_name(self.id)} {self._lost}")

    def _deadline(self) -> float:
        self._heard_at = self._clock.monotonic()
        return self._heard_at + self._options.propose

    async def _try_to_write(self) -> None:
        """A failure that passes costs nothing yet: it is tried again before the lease is over."""
        try:
            await self._write()
        except DwError as error:
            if not error.retryable:
                raise

    async def _write(self) -> None:
        async with self._writing:
            self._require()
            sent_at = self._written_at = self._clock.monotonic()
            self._changed = False
            try:
                with _leaving(self):
                    command = self._command(lease_ms=int(self._options.lease * 1000))
                    await self._meta.control(command, deadline=sent_at + self._options.propose)
            except BaseException:
                self._changed = True
                raise
            self._until = sent_at + self._options.lease

    def _command(self, *, lease_ms: int) -> ReportJob:
        return ReportJob(
            job=self.id,
            epoch=self.fence.epoch,
            step=self._step,
            done=self._done,
            total=self._total,
            blocker=self._blocker,
            cursor=self._cursor,
            lease_ms=lease_ms,
        )


@contextmanager
def _leaving(job: LeasedJob) -> Iterator[None]:
    """A refusal by the fence becomes LeaseLost, and is remembered."""
    try:
        yield
    except Conflict as error:
        if error.code != FENCED:
            raise
        job.lose("is no longer run here")
        raise LeaseLost(error.code, error.message) from error


def _told(error: DwError) -> str:
    text = error.message if not error.hint else f"{error.message}; {error.hint}"
    return text[:TEXT_CHARACTERS_MAX]
