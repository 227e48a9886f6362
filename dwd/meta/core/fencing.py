"""Fences: a command sent by a step of a job says for which job, and under which lease.

A runner that slept past its lease may wake and go on where it was, while another runs the job. Control knows each
job's lease and refuses any other; a shard keeps the highest epoch that it saw of each job, and refuses lower ones.

Source: Kleppmann, "How to do distributed locking" (fencing tokens); metadata.md, "Jobs".
"""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.errors import Conflict
from dwd.base.ids import JobId, job_name

FENCED = "job.fenced"
"""The code of every refusal: whoever meets it no longer runs the job, and must not go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """The job a command belongs to, and the epoch of the lease its sender holds."""

    job: JobId
    epoch: int


def fenced(fence: Fence, epoch: int) -> Conflict:
    """The refusal; `epoch` is the present one, 0 when the job is over."""
    now = f"it stands at epoch {epoch}" if epoch else "it is over"
    return Conflict(FENCED, f"job {job_name(fence.job)} is no longer run under epoch {fence.epoch}: {now}")
