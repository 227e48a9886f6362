"""How a job looks while it runs: a bar on a terminal, a line a change in a pipe, nothing for scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dwctl.output import Output
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from rich.progress import Progress

    from dwd.pb.admin.v1 import jobs_pb2

BYTES = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A job as last heard of, and what stands in the way of hearing more."""

    job: jobs_pb2.JobInfo
    trouble: str = ""


Show = Callable[[Seen], None]


@contextmanager
def display(sink: Output) -> Iterator[Show]:
    """Takes what was seen, each time it changed."""
    if sink.as_json:
        yield lambda _seen: None
    elif not sys.stderr.isatty():
        yield Lines(sink).show
    else:
        with Bar.progress(sink) as progress:
            yield Bar(progress).show


class Lines:
    """One whenever the step, the state or the blocker changes, or another tenth is done."""

    def __init__(self, sink: Output) -> None:
        self._sink = sink
        self._last: tuple[str, ...] = ()

    def show(self, seen: Seen) -> None:
        job = seen.job
        tenth = str(job.done * 10 // job.total) if job.total else ""
        said = (job.state, job.step_name, job.blocker, seen.trouble, tenth)
        if said != self._last and not job.over:
            self._last = said
            self._sink.note(line(seen))


class Bar:
    """Step, share, rate, time left; below them what it waits for."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, step="", counts="", blocker="")

    @staticmethod
    def progress(sink: Output) -> Progress:
        from rich import progress as parts

        return parts.Progress(
            parts.TextColumn("{task.fields[step]}", markup=False),
            parts.BarColumn(),
            parts.TextColumn("{task.fields[counts]}", markup=False),
            parts.TimeRemainingColumn(compact=True),
            parts.TextColumn("{task.fields[blocker]}", markup=False, style="yellow"),
            console=sink.messages(),
            transient=True,
        )

    def show(self, seen: Seen) -> None:
        job = seen.job
        total = job.total or len(job.steps) + 1
        done = job.done if job.total else job.step
        speed = self._progress.tasks[self._task].speed
        rate = f"  {amount(int(speed), job.unit)}/s" if speed and job.total else ""
        self._progress.update(
            self._task,
            completed=total if job.state == "done" else done,
            total=total,
            step=f"{job.job}  {step_of(job)}",
            counts=counts_of(job) + rate,
            blocker=waits_for(seen),
        )


def line(seen: Seen) -> str:
    """In one line."""
    parts = [seen.job.job, step_of(seen.job), counts_of(seen.job), waits_for(seen)]
    return "  ".join(part for part in parts if part)


def step_of(job: jobs_pb2.JobInfo) -> str:
    if job.state in {"queued", "paused"} or job.over:
        return job.state
    number = min(job.step + 1, len(job.steps))
    return f"{job.step_name} ({number}/{len(job.steps)})" if len(job.steps) > 1 else job.step_name


def counts_of(job: jobs_pb2.JobInfo) -> str:
    if not job.total:
        return ""
    return f"{amount(job.done, job.unit)} of {amount(job.total, job.unit)}"


def waits_for(seen: Seen) -> str:
    if seen.trouble:
        return seen.trouble
    if seen.job.state == "queued":
        return "waits for a runner"
    return f"waits for: {seen.job.blocker}" if seen.job.blocker else ""


def amount(count: int, unit: str) -> str:
    return format_bytes(count) if unit == BYTES else f"{count:,} {unit}".rstrip()
