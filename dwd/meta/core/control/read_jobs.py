"""Answers about jobs."""

from __future__ import annotations

from dwd.base.ids import JobId, NodeId, Stamp
from dwd.meta.core.control.job_queries import JobAnswer, JobsAnswer, ListJobs
from dwd.meta.core.control.job_rows import OVER, JobRow, JobState, decode_arguments, decode_plan
from dwd.meta.core.tx import Reader, Row

PAGE_MAX = 100
_COLUMNS = (
    "SELECT job, kind, arguments, plan, plan_hash, state, step, done, total, blocker, cursor, result, error_code,"
    " error, runner, epoch, lease_until, attempts, asked_by, created, updated FROM jobs"
)


def job(reader: Reader, wanted: JobId) -> JobAnswer:
    row = reader.row(_COLUMNS + " WHERE job = ?", (wanted,))
    return JobAnswer(job=None if row is None else _job(row))


def jobs(reader: Reader, query: ListJobs) -> JobsAnswer:
    limit = max(1, min(query.limit, PAGE_MAX))
    rows = list(
        reader.rows(
            _COLUMNS + " WHERE (?1 = 0 OR job < ?1) AND (?2 OR state NOT IN (?3, ?4, ?5)) AND (?6 = '' OR kind = ?6)"
            " ORDER BY job DESC LIMIT ?7",
            (query.before, int(query.over), *OVER, query.kind, limit + 1),
        )
    )
    return JobsAnswer(jobs=tuple(_job(row) for row in rows[:limit]), more=len(rows) > limit)


def live_jobs(reader: Reader) -> tuple[JobRow, ...]:
    """Oldest first."""
    rows = reader.rows(_COLUMNS + " WHERE state NOT IN (?, ?, ?) ORDER BY job", OVER)
    return tuple(_job(row) for row in rows)


def _job(row: Row) -> JobRow:
    return JobRow(
        job=JobId(row[0]),
        kind=row[1],
        arguments=decode_arguments(row[2]),
        plan=decode_plan(row[3]),
        plan_hash=row[4],
        state=JobState(row[5]),
        step=row[6],
        done=row[7],
        total=row[8],
        blocker=row[9],
        cursor=row[10],
        result=row[11],
        error_code=row[12],
        error=row[13],
        runner=NodeId(row[14]),
        epoch=row[15],
        lease_until=row[16],
        attempts=row[17],
        asked_by=row[18],
        created=Stamp(row[19]),
        updated=Stamp(row[20]),
    )
