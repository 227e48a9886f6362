"""dwctl job: long work, seen and steered. dwctl why: what a thing waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dwctl.job_display import counts_of, step_of
from dwctl.jobs import DryRunFlag, ForceFlag, WaitFlag, concluded, follow_job, run_job
from dwctl.output import confirm
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwd.base.errors import InvalidArgument
from dwd.base.units import format_duration

if TYPE_CHECKING:
    from dwd.pb.admin.v1 import jobs_pb2

app = typer.Typer(name="job", help="Long work: list, start, show, watch, cancel, pause, resume.", no_args_is_help=True)
JobArgument = Annotated[str, typer.Argument(help="The job, as `dwctl job list` names it: j142.")]


@app.command("list", epilog="Example: dwctl job list --all")
def list_(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Those that ended too.")] = False,
    kind: Annotated[str, typer.Option(help="Only this kind, as node.drain.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="Show so many at most, the newest first.")] = 50,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the jobs that are not over."""
    with admin(context) as client:
        request = client.jobs_pb.ListJobsRequest(over=everything, kind=kind, limit=limit)
        found = client.ask(client.jobs.ListJobs, request)
    columns = (
        "job",
        "kind",
        Column(name="arguments", rank=3),
        Column(name="state", is_state=True),
        "step",
        Column(name="progress", rank=2, is_number=True),
        Column(name="node", rank=4),
        Column(name="age", rank=5, is_number=True),
        Column(name="waits for", rank=1),
    )
    rows = [
        (
            job.job, job.kind, arguments_of(job), job.state, "-" if job.over else step_of(job), counts_of(job) or "-",
            job.runner_name or "-", format_duration(ago(job, job.created_unix_ms)), job.blocker or job.error or "-",
        )
        for job in found.jobs
    ]  # fmt: skip
    sink = output(as_json)
    sink.table(table("jobs", columns, rows), as_document(found))
    if not found.jobs and not everything:
        sink.note("no such job is going on; `dwctl job list --all` shows those that ended")
    if found.more:
        sink.note("there are more: say --limit")


@app.command(epilog="Example: dwctl job start cluster.verify pages=yes --no-wait")
def start(
    kind: Annotated[str, typer.Argument(help="The kind of job.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Its arguments.")] = None,
    dry_run: DryRunFlag = False,
    force: ForceFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Start a job of any kind. Most kinds have a verb of their own, which says more."""
    given = dict(pair.partition("=")[::2] for pair in arguments or ())
    if any("=" not in pair for pair in arguments or ()):
        raise InvalidArgument("dwctl.arguments", "arguments look like NAME=VALUE", hint="see `dwctl job start --help`")
    with admin(context) as client:
        run_job(client, kind, given, dry_run=dry_run, yes=yes, wait=wait, force=force, as_json=as_json)


@app.command()
def show(job: JobArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Show a job: its plan, how far it is, what it waits for, what it came to."""
    with admin(context) as client:
        found = client.ask(client.jobs.GetJob, client.jobs_pb.GetJobRequest(job=job))
    output(as_json).value(as_document(found), "\n".join(lines(found)))


def lines(job: jobs_pb2.JobInfo) -> list[str]:
    """The whole job for people."""
    told = [f"{job.job}  {job.kind}  {arguments_of(job)}".rstrip()]
    told += [f"  {line}" for line in job.lines]
    told += [f"  warning: {line}" for line in job.warnings]
    told.append(f"state     {job.state}")
    told.append("steps     " + ", ".join(mark(job, at) for at in range(len(job.steps))))
    facts = (
        ("progress", counts_of(job)),
        ("waits for", job.blocker),
        ("result", job.result),
        ("error", f"{job.error} ({job.error_code})" if job.error else ""),
        ("node", job.runner_name),
        ("attempts", str(job.attempts)),
        ("asked by", job.asked_by),
        ("created", f"{format_duration(ago(job, job.created_unix_ms))} ago"),
        ("changed", f"{format_duration(ago(job, job.updated_unix_ms))} ago"),
    )
    return told + [f"{name:<9} {value}" for name, value in facts if value]


def mark(job: jobs_pb2.JobInfo, at: int) -> str:
    """A step and whether it is done."""
    if job.state == "done" or at < job.step:
        return f"{job.steps[at]} (done)"
    return f"{job.steps[at]} (now)" if at == job.step and not job.over else job.steps[at]


@app.command()
def watch(job: JobArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Follow a job to its end; exits as the verb that started it would have."""
    with admin(context) as client:
        ended = follow_job(client, job, as_json=as_json)
    concluded(ended, output(as_json))


@app.command()
def cancel(job: JobArgument, yes: YesFlag = False, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """End a job early. What it did stays done, but for what must not stay half-way."""
    confirm(f"cancel {job}?", yes=yes)
    _set(job, "CANCEL", "is being cancelled", context, as_json)


@app.command()
def pause(job: JobArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Have a job rest where it is."""
    _set(job, "PAUSE", "is paused", context, as_json)


@app.command()
def resume(job: JobArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Have a paused job go on."""
    _set(job, "RESUME", "goes on", context, as_json)


def _set(job: str, action: str, done: str, context: str | None, as_json: bool) -> None:
    with admin(context) as client:
        pb = client.jobs_pb
        request = pb.SetJobRequest(job=job, action=pb.JobAction.Value(f"JOB_ACTION_{action}"))
        found = client.change(client.jobs.SetJob, request)
    output(as_json).value(as_document(found), f"{job} {done}")


def why(
    thing: Annotated[str, typer.Argument(metavar="ID", help="A job (j142), a node (name or id), a device (id).")],
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a thing is waiting for, and what to do about it."""
    with admin(context) as client:
        found = client.ask(client.jobs.Explain, client.jobs_pb.ExplainRequest(id=thing))
    told = [f"{found.what} {found.id}: {found.standing}"]
    for reason in found.reasons:
        told.append(f"  {reason.about} waits for {reason.waits_for}")
        told += [f"    next: {reason.next}"] if reason.next else []
    if not found.reasons:
        told.append("  it waits for nothing")
    output(as_json).value(as_document(found), "\n".join(told))


def arguments_of(job: jobs_pb2.JobInfo) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(job.arguments.items()))


def ago(job: jobs_pb2.JobInfo, unix_ms: int) -> float:
    """Seconds, by the clock of whoever answered."""
    return max(0.0, (job.now_unix_ms - unix_ms) / 1000)
