"""CreateJob, LeaseJob, ReportJob, FinishJob, AskJob.

    QUEUED ──lease──► RUNNING ──finish──► DONE | FAILED
      ▲ ▲               │ │
      │ └───give back───┘ └──pause──► PAUSED ──resume──► QUEUED
      └─ any live state ──cancel──► CANCELLING ──finish──► CANCELLED | FAILED

Invariants:
* one runner at a time: each lease, pause and cancel raises the epoch, and a mutation under another epoch is refused;
* an expired lease is only taken, never lost by itself: who reports under the present epoch still holds it;
* the lease of a node that is DOWN, or removed, may be taken before it expires: fences make that safe;
* a job that is over never changes again.
"""

from __future__ import annotations

import re
from typing import assert_never

from dwd.base.errors import Busy, Conflict, InvalidArgument, NotFound
from dwd.base.ids import JobId, job_name, stamp_ms
from dwd.meta.core.control.job_commands import AskJob, CreateJob, FinishJob, JobCommand, LeaseJob, ReportJob
from dwd.meta.core.control.job_rows import (
    LEASABLE,
    OVER,
    WORKING,
    JobState,
    JobWish,
    encode_arguments,
    encode_plan,
    plan_hash,
)
from dwd.meta.core.control.rows import Liveness
from dwd.meta.core.control.state import Control, Part, check_text
from dwd.meta.core.fencing import Fence, fenced
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.tx import INTEGER_MAX, At

JOBS_LIVE_MAX = 64
JOBS_KEPT_MAX = 500
"""That are over, when another is made."""
ARGUMENTS_MAX = 32
ARGUMENTS_CHARACTERS_MAX = 8 * 1024
STEPS_MAX = 32
PLAN_BYTES_MAX = 48 * 1024
CURSOR_BYTES_MAX = 16 * 1024
RESULT_CHARACTERS_MAX = 4 * 1024
LEASE_MS_MAX = 10 * 60 * 1000
_KIND = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
KIND_CHARACTERS_MAX = 64
_NEXT: dict[tuple[JobState, JobWish], JobState] = {
    (JobState.QUEUED, JobWish.PAUSE): JobState.PAUSED,
    (JobState.RUNNING, JobWish.PAUSE): JobState.PAUSED,
    (JobState.PAUSED, JobWish.PAUSE): JobState.PAUSED,
    (JobState.QUEUED, JobWish.RESUME): JobState.QUEUED,
    (JobState.RUNNING, JobWish.RESUME): JobState.RUNNING,
    (JobState.PAUSED, JobWish.RESUME): JobState.QUEUED,
    (JobState.QUEUED, JobWish.CANCEL): JobState.CANCELLING,
    (JobState.RUNNING, JobWish.CANCEL): JobState.CANCELLING,
    (JobState.PAUSED, JobWish.CANCEL): JobState.CANCELLING,
    (JobState.CANCELLING, JobWish.CANCEL): JobState.CANCELLING,
}
"""Of a state and a wish, the state it leads to; what is missing is refused."""


def apply(control: Control, command: JobCommand, at: At) -> Receipt:
    """Raises the DwError the command earned, before its first write."""
    match command:
        case ReportJob():
            return report_job(control, command, at)
        case LeaseJob():
            return lease_job(control, command, at)
        case CreateJob():
            return create_job(control, command, at)
        case FinishJob():
            return finish_job(control, command, at)
        case AskJob():
            return ask_job(control, command, at)
        case _:
            assert_never(command)


def create_job(control: Control, command: CreateJob, at: At) -> Receipt:
    _check_created(command)
    arguments = encode_arguments(command.arguments)
    live = control.tx.row(
        "SELECT job FROM jobs WHERE kind = ? AND arguments = ? AND state NOT IN (?, ?, ?)",
        (command.kind, arguments, *OVER),
    )
    if live is not None:
        return Receipt(index=at.index, stamp=at.stamp, existed=True, count=live[0])
    count = control.tx.row("SELECT count(*) FROM jobs WHERE state NOT IN (?, ?, ?)", OVER) or (0,)
    if count[0] >= JOBS_LIVE_MAX:
        raise Busy("job.live", f"there may be {JOBS_LIVE_MAX} live jobs", hint="see `dwctl job list`")

    control.tx.run(
        "DELETE FROM jobs WHERE job IN"
        " (SELECT job FROM jobs WHERE state IN (?, ?, ?) ORDER BY job DESC LIMIT -1 OFFSET ?)",
        (*OVER, JOBS_KEPT_MAX),
    )
    control.tx.run(
        "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, '', x'', '', '', '', 0, 0, 0, 0, ?, ?, ?)",
        (
            at.index,
            command.kind,
            arguments,
            encode_plan(command.plan),
            command.plan_hash,
            JobState.QUEUED,
            command.plan.total,
            command.asked_by,
            at.stamp,
            at.stamp,
        ),
    )
    control.touched.add(Part.JOBS)
    return Receipt(index=at.index, stamp=at.stamp, count=at.index)


def lease_job(control: Control, command: LeaseJob, at: At) -> Receipt:
    if not 0 < command.lease_ms <= LEASE_MS_MAX:
        raise InvalidArgument("job.lease", f"a lease takes 1 to {LEASE_MS_MAX} ms")
    row = control.tx.row("SELECT state, runner, lease_until, epoch FROM jobs WHERE job = ?", (command.job,))
    if row is None:
        raise _unknown(command.job)
    state, runner, until, epoch = row
    if state not in LEASABLE:
        raise Conflict("job.not_leasable", f"job {job_name(command.job)} is {JobState(state).name.lower()}")
    now = stamp_ms(at.stamp)
    if runner not in {0, command.node} and until >= now and _answers(control, runner):
        raise Conflict("job.leased", f"another node runs job {job_name(command.job)}")
    control.tx.run(
        "UPDATE jobs SET state = ?, runner = ?, lease_until = ?, epoch = ?, attempts = attempts + 1, updated = ?"
        " WHERE job = ?",
        (
            JobState.CANCELLING if state == JobState.CANCELLING else JobState.RUNNING,
            command.node,
            now + command.lease_ms,
            epoch + 1,
            at.stamp,
            command.job,
        ),
    )
    control.touched.add(Part.JOBS)
    return Receipt(index=at.index, stamp=at.stamp, count=epoch + 1)


def report_job(control: Control, command: ReportJob, at: At) -> Receipt:
    check_text(command.blocker)
    if len(command.cursor) > CURSOR_BYTES_MAX or not 0 <= command.lease_ms <= LEASE_MS_MAX:
        raise InvalidArgument("job.report", f"a cursor has up to {CURSOR_BYTES_MAX} bytes, a lease a bound")
    if not (0 <= command.done <= INTEGER_MAX and 0 <= command.total <= INTEGER_MAX):
        raise InvalidArgument("job.progress", "progress is not negative")
    check_fence(control, Fence(job=command.job, epoch=command.epoch))
    row = control.tx.row("SELECT step, state FROM jobs WHERE job = ?", (command.job,)) or (0, 0)
    if not row[0] <= command.step <= STEPS_MAX:
        raise InvalidArgument("job.step", f"job {job_name(command.job)} is at step {row[0]} already")
    given_back = command.lease_ms == 0
    waits = given_back and row[1] == JobState.RUNNING
    control.tx.run(
        "UPDATE jobs SET state = ?, step = ?, done = ?, total = ?, blocker = ?, cursor = ?, lease_until = ?,"
        " runner = CASE ? WHEN 1 THEN 0 ELSE runner END, updated = ? WHERE job = ?",
        (
            JobState.QUEUED if waits else row[1],
            command.step,
            command.done,
            command.total,
            command.blocker,
            command.cursor,
            0 if given_back else stamp_ms(at.stamp) + command.lease_ms,
            int(given_back),
            at.stamp,
            command.job,
        ),
    )
    control.touched.add(Part.JOBS)
    return Receipt(index=at.index, stamp=at.stamp)


def finish_job(control: Control, command: FinishJob, at: At) -> Receipt:
    check_text(command.error_code, command.error)
    if command.state not in OVER or len(command.result) > RESULT_CHARACTERS_MAX:
        raise InvalidArgument("job.finish", "a job ends done, failed or cancelled, with a short result")
    check_fence(control, Fence(job=command.job, epoch=command.epoch))
    row = control.tx.row("SELECT state FROM jobs WHERE job = ?", (command.job,)) or (0,)
    undone = row[0] == JobState.CANCELLING
    if command.state is (JobState.DONE if undone else JobState.CANCELLED):
        raise InvalidArgument("job.finish", f"a job that is {JobState(row[0]).name.lower()} does not end like this")
    control.tx.run(
        "UPDATE jobs SET state = ?, blocker = '', cursor = x'', result = ?, error_code = ?, error = ?, runner = 0,"
        " lease_until = 0, updated = ? WHERE job = ?",
        (command.state, command.result, command.error_code, command.error, at.stamp, command.job),
    )
    control.touched.add(Part.JOBS)
    return Receipt(index=at.index, stamp=at.stamp)


def ask_job(control: Control, command: AskJob, at: At) -> Receipt:
    row = control.tx.row("SELECT state, epoch FROM jobs WHERE job = ?", (command.job,))
    if row is None:
        raise _unknown(command.job)
    state = JobState(row[0])
    if state in OVER:
        raise Conflict("job.over", f"job {job_name(command.job)} is {state.name.lower()}")
    wanted = _NEXT.get((state, command.wish))
    if wanted is None:
        raise Conflict("job.cancelling", f"job {job_name(command.job)} is being cancelled")
    if wanted is not state:
        control.tx.run(
            "UPDATE jobs SET state = ?, runner = 0, lease_until = 0, epoch = ?, blocker = '', updated = ?"
            " WHERE job = ?",
            (wanted, row[1] + 1, at.stamp, command.job),
        )
        control.touched.add(Part.JOBS)
    return Receipt(index=at.index, stamp=at.stamp, existed=wanted is state)


def check_fence(control: Control, fence: Fence) -> None:
    """Raises Conflict job.fenced unless the job is run under exactly this epoch."""
    row = control.tx.row("SELECT epoch, state, runner FROM jobs WHERE job = ?", (fence.job,))
    if row is None or row[1] in OVER:
        raise fenced(fence, 0)
    if row[0] != fence.epoch or row[1] not in WORKING or not row[2]:
        raise fenced(fence, row[0])


def _answers(control: Control, node: int) -> bool:
    row = control.tx.row("SELECT liveness FROM nodes WHERE node = ?", (node,))
    return row is not None and row[0] == Liveness.UP


def _check_created(command: CreateJob) -> None:
    if len(command.kind) > KIND_CHARACTERS_MAX or _KIND.fullmatch(command.kind) is None:
        raise InvalidArgument("job.kind", "a kind of job is words with dots between them")
    names = [argument.name for argument in command.arguments]
    if names != sorted(set(names)) or len(names) > ARGUMENTS_MAX:
        raise InvalidArgument("job.arguments", f"a job has up to {ARGUMENTS_MAX} arguments, each once, by name")
    if len(encode_arguments(command.arguments)) > ARGUMENTS_CHARACTERS_MAX:
        raise InvalidArgument("job.arguments", "a job's arguments are too long")
    plan = command.plan
    if not 0 < len(plan.steps) <= STEPS_MAX or not 0 <= plan.total <= INTEGER_MAX:
        raise InvalidArgument("job.plan", f"a plan has 1 to {STEPS_MAX} steps and a total")
    if len(encode_plan(plan)) > PLAN_BYTES_MAX:
        raise InvalidArgument("job.plan", f"a plan has up to {PLAN_BYTES_MAX} bytes")
    check_text(command.asked_by)
    if plan_hash(command.kind, command.arguments, plan) != command.plan_hash:
        raise InvalidArgument("job.plan_hash", "the hash is not that of the plan")


def _unknown(job: JobId) -> NotFound:
    return NotFound("job.not_found", f"there is no job {job_name(job)}", hint="`dwctl job list --all` shows them")
