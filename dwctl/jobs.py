"""What every verb does that starts a job: show the plan, ask, start, follow.

A job outlives whoever started it: an interrupt leaves it running, and a node that goes away is replaced by another one
to ask. Exit codes: 0 done, 1 failed, 4 refused by a safety check or by whoever was asked, 6 not over yet, 8 the plan
changed meanwhile, or the job was cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl.job_display import Seen, Show, display
from dwctl.output import Output, confirm
from dwctl.session import as_document, output
from dwd.base.errors import Conflict, DeadlineExceeded, DwError, OutcomeUnknown, Unavailable
from dwd.base.exits import Exit

if TYPE_CHECKING:
    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import jobs_pb2

DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")]
WaitFlag = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end, or print its id at once.")]
ForceFlag = Annotated[bool, typer.Option("--force", help="Override what a safety check lets be overridden.")]
PLAN_SECONDS = 60.0
AGAIN_SECONDS = 1.0
"""Between tries to reach another node."""
SILENT_SECONDS_MAX = 120.0
"""How long no node may answer before following is given up; the job goes on."""


def run_job(
    client: AdminClient,
    kind: str,
    arguments: Mapping[str, str],
    *,
    dry_run: bool = False,
    yes: bool = False,
    wait: bool = True,
    force: bool = False,
    as_json: bool = False,
) -> jobs_pb2.JobInfo | None:
    """Print the plan, ask, start, follow. The job once it is done and that was printed; None after a dry run.

    Raises what planning and starting raise; DwError when the job failed, Conflict when it was cancelled, typer.Exit 6
    with the id printed without `wait`, OutcomeUnknown when nobody can be asked any more.
    """
    sink, pb = output(as_json), client.jobs_pb
    wanted = pb.PlanJobRequest(kind=kind, arguments=arguments, force=force)
    plan = client.ask(client.jobs.PlanJob, wanted, seconds=PLAN_SECONDS)
    if dry_run:
        sink.value(as_document(plan), "\n".join(plan_lines(plan)))
        return None
    for line in plan_lines(plan):
        sink.note(line)
    confirm("go on?", yes=yes)
    agreed = "" if yes else plan.hash
    job = start_job(client, kind, arguments, wait=wait, force=force, as_json=as_json, agreed=agreed)
    ended = follow_job(client, job, as_json=as_json)
    return concluded(ended, sink)


def start_job(
    client: AdminClient,
    kind: str,
    arguments: Mapping[str, str],
    *,
    wait: bool = True,
    force: bool = False,
    as_json: bool = False,
    agreed: str = "",
) -> str:
    """The job's id, for whoever shows its own plan or none. `agreed`: the hash of a plan that was shown."""
    sink, pb = output(as_json), client.jobs_pb
    started = client.change(
        client.jobs.StartJob,
        pb.StartJobRequest(kind=kind, arguments=arguments, force=force, plan_hash=agreed),
        seconds=PLAN_SECONDS,
    )
    if started.existed:
        sink.note(f"{started.job} is at it already")
    if not wait:
        sink.value(as_document(started), started.job)
        sink.note(f"it goes on by itself; see `dwctl job watch {started.job}`")
        raise typer.Exit(Exit.OUTCOME_UNKNOWN)
    job: str = started.job
    return job


def plan_lines(plan: jobs_pb2.JobPlanInfo) -> Iterator[str]:
    """What people agree to."""
    yield from plan.lines
    yield from plan.estimates
    yield from (f"warning: {line}" for line in plan.warnings)
    yield "steps: " + ", ".join(plan.steps)


def follow_job(client: AdminClient, job: str, *, as_json: bool) -> jobs_pb2.JobInfo:
    """The job once it is over, its way there shown. Raises NotFound, OutcomeUnknown; an interrupt leaves it running."""
    sink = output(as_json)
    last: jobs_pb2.JobInfo | None = None
    try:
        with display(sink) as show:
            for last in states(client, job, show):
                show(Seen(job=last))
    except KeyboardInterrupt:
        sink.note(f"\n{job} goes on; see `dwctl job watch {job}`, end it by `dwctl job cancel {job}`")
        raise
    if last is None or not last.over:
        raise OutcomeUnknown("job.not_over", f"{job} is not over yet", hint=f"see `dwctl job watch {job}`", job=job)
    return last


def concluded(job: jobs_pb2.JobInfo, sink: Output) -> jobs_pb2.JobInfo:
    """Print what a job that is over came to. Raises DwError when it failed, Conflict when it was cancelled."""
    see = f"see `dwctl job show {job.job}`"
    if job.state == "failed":
        raise DwError(job.error_code or "job.failed", f"{job.job} failed: {job.error}", hint=see, job=job.job)
    if job.state == "cancelled":
        raise Conflict("job.cancelled", f"{job.job} was cancelled", hint=see, job=job.job)
    sink.value(as_document(job), f"{job.job} done" + (f": {job.result}" if job.result else ""))
    return job


def states(client: AdminClient, job: str, show: Show) -> Iterator[jobs_pb2.JobInfo]:
    """The job whenever it changed, until it is over; asked of another node when one goes away. Raises NotFound;
    OutcomeUnknown when nobody answers for SILENT_SECONDS_MAX.
    """
    from dwctl.client import connect

    last: jobs_pb2.JobInfo | None = None
    heard = time.monotonic()
    current = client
    with ExitStack() as others:
        while last is None or not last.over:
            try:
                for last in current.stream(current.jobs.WatchJob, current.jobs_pb.WatchJobRequest(job=job)):
                    heard = time.monotonic()
                    yield last
            except (Unavailable, DeadlineExceeded) as error:
                if last is None or client.cluster is None:
                    raise
                if time.monotonic() - heard > SILENT_SECONDS_MAX:
                    raise OutcomeUnknown(
                        "job.not_over", f"no node says how {job} is", hint=f"see `dwctl job watch {job}`", job=job
                    ) from error
                show(Seen(job=last, trouble=f"asking other nodes: {error.message}"))
                time.sleep(AGAIN_SECONDS)
                others.close()
                try:
                    current = others.enter_context(connect(client.cluster))
                except Unavailable:
                    current = client
