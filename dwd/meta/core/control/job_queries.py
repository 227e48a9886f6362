"""Questions about jobs."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.ids import JobId
from dwd.meta.core.control.job_rows import JobRow
from dwd.meta.core.query import Query

NEWEST = JobId(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAnswer:
    job: JobRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetJob(Query[JobAnswer]):
    job: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsAnswer:
    jobs: tuple[JobRow, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListJobs(Query[JobsAnswer]):
    """Newest first, those before `before` (0: from the newest on); only live ones unless `over`."""

    before: JobId = NEWEST
    limit: int = 100
    over: bool = False
    kind: str = ""
    """Only this one, unless empty."""
