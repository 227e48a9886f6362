"""Commands of control about jobs. Every one but CreateJob and AskJob names the lease it is sent under."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.ids import JobId, NodeId
from dwd.meta.core.control.job_rows import JobArgument, JobPlan, JobState, JobWish


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateJob:
    """Receipt.count: the job's id; Receipt.existed: a live job of this kind with these arguments, which stays as it
    is. The oldest jobs that are over are forgotten. Refused: InvalidArgument (bounds; job.plan_hash), Busy job.live.
    """

    kind: str
    arguments: tuple[JobArgument, ...]
    plan: JobPlan
    plan_hash: str
    asked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseJob:
    """`node` runs the job for `lease_ms` from this entry's stamp on; a lease that expired, or whose node is DOWN, is
    taken over. Receipt.count: the lease's epoch.
    Refused: NotFound; Conflict job.leased (another holds it), job.not_leasable (paused or over).
    """

    job: JobId
    node: NodeId
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportJob:
    """How far the step is; the lease begins anew. `lease_ms` 0 gives the job back. A job never returns to an earlier
    step. Refused: Conflict job.fenced, InvalidArgument.
    """

    job: JobId
    epoch: int
    step: int
    done: int
    total: int
    blocker: str
    cursor: bytes
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishJob:
    """`state` DONE, or FAILED with its error, or CANCELLED once undone. Refused: Conflict job.fenced."""

    job: JobId
    epoch: int
    state: JobState
    result: str = ""
    error_code: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskJob:
    """An operator's wish. It takes the lease away: the runner notices, and nothing it still sends takes effect.
    What is so already stays so. Refused: NotFound; Conflict job.over, job.cancelling.
    """

    job: JobId
    wish: JobWish


JobCommand = CreateJob | LeaseJob | ReportJob | FinishJob | AskJob
