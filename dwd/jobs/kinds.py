"""What a kind of job is, and what its steps are given. Kinds live with their domain; `dwd.node.jobs` registers them.

Plan, run, verify: `plan` looks and changes nothing; the row keeps what it said; `run` does one step at a time, and
`verify` says at the end whether what was promised is so.

Invariants that every kind must keep:
* a step may be run again from its last reported cursor, at any time, by another node: it is idempotent;
* whatever a step changes in metadata goes through `RunningJob.control` and `RunningJob.shard`, which refuse a runner
  that lost its lease. What cannot carry a lease (a call to a device) must be harmless when done twice or late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dwd.base.errors import Conflict
from dwd.base.ids import GroupId, JobId
from dwd.meta.core.control.commands import ControlCommand
from dwd.meta.core.control.job_rows import JobPlan
from dwd.meta.core.fencing import Fence
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import ShardCommand

__all__ = ["JobKind", "JobPlan", "LeaseLost", "RunningJob"]


class LeaseLost(Conflict):
    """The job was paused or cancelled, or another node runs it now. Let it pass: the step is over here."""


class RunningJob(Protocol):
    """A job under this node's lease. Every method raises LeaseLost once the lease is gone, and what proposals raise."""

    @property
    def id(self) -> JobId: ...

    @property
    def arguments(self) -> Mapping[str, str]: ...

    @property
    def plan(self) -> JobPlan: ...

    @property
    def step(self) -> int:
        """Index into the plan's steps; their number while the job verifies."""
        ...

    @property
    def step_name(self) -> str: ...

    @property
    def cursor(self) -> bytes:
        """As last reported in this step; empty at a step's beginning."""
        ...

    @property
    def fence(self) -> Fence:
        """For proposals made elsewhere on behalf of this job."""
        ...

    async def report(
        self,
        *,
        done: int | None = None,
        total: int | None = None,
        blocker: str = "",
        cursor: bytes | None = None,
        flush: bool = False,
    ) -> None:
        """How far the step is; None leaves a value as it is. Written at most once a second, the last one by the end of
        the step; `flush` writes now. The lease is kept in the background: silence costs nothing.
        """
        ...

    async def wait(self, seconds: float) -> None:
        """Rest, as a step does that waits for others to act."""
        ...

    async def control(self, command: ControlCommand) -> Receipt:
        """Propose to control under this lease."""
        ...

    async def shard(self, group: GroupId, command: ShardCommand) -> Receipt:
        """Propose to a shard under this lease."""
        ...

    async def hold(self, group: GroupId) -> None:
        """Shut earlier runners of this job out of a shard, before reading there what is then acted on."""
        ...

    def conclude(self, result: str) -> None:
        """What people read once the job is done; the last one said counts."""
        ...


class JobKind(Protocol):
    """One kind of job. Its methods raise DwError: a retryable one is shown as the blocker and tried again, any other
    ends the job as failed, with the reason.
    """

    @property
    def name(self) -> str:
        """Stable, lower case with dots: "node.drain"."""
        ...

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        """What would be done; changes nothing. Raises InvalidArgument, NotFound, SafetyRefused (`force` overrides what
        may be overridden, and the plan's warnings then say what).
        """
        ...

    async def run(self, job: RunningJob) -> None:
        """Do step `job.step`, from `job.cursor` on."""
        ...

    async def verify(self, job: RunningJob) -> None:
        """After the last step: raises unless the job's aim is reached."""
        ...

    async def cancelled(self, job: RunningJob) -> None:
        """Undo what must not stay; called once the job was cancelled, whichever step it was at. Idempotent."""
        ...
