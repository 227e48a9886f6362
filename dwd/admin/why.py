"""`dwctl why ID`: what a job, node or device waits for, and what an operator can do about it.

A thing's id says what it is. Each kind of thing has an explainer in EXPLAINERS, asked in turn: it answers, or says
None when the id is not one of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dwd.admin.context import AdminContext
from dwd.base.errors import InvalidArgument, NotFound
from dwd.base.ids import hex_id, job_name, parse_job_name, stamp_ms
from dwd.base.units import format_duration
from dwd.meta.core.control.job_rows import JobRow, JobState
from dwd.meta.core.control.rows import DeviceRow, DeviceState, Liveness


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """`next` is empty where nobody has to do anything."""

    about: str
    waits_for: str
    next: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`what` the thing is, how it stands in a sentence, and what it waits for, if anything."""

    id: str
    what: str
    standing: str
    reasons: tuple[Reason, ...] = ()


async def explain(context: AdminContext, wanted: str) -> Explanation:
    """Raises NotFound."""
    for explainer in EXPLAINERS:
        found = await explainer(context, wanted)
        if found is not None:
            return found
    raise NotFound(
        "why.not_found",
        f"nothing is called {wanted[:63]!r}",
        hint="jobs look like j142 (`dwctl job list`), nodes and devices have names and ids (`dwctl node list`)",
    )


async def of_job(context: AdminContext, wanted: str) -> Explanation | None:
    try:
        job = parse_job_name(wanted)
    except InvalidArgument:
        return None
    row = await context.jobs.get(job, deadline=context.deadline())
    return Explanation(id=wanted, what="job", standing=_standing(context, row), reasons=_reasons(context, row))


def _standing(context: AdminContext, row: JobRow) -> str:
    text = f"{row.kind} is {row.state.name.lower()}"
    if row.over:
        return f"{text}: {row.error}" if row.error else text
    text += f" at step {row.step_name}"
    if row.total:
        text += f", {row.done:,} of {row.total:,} {row.plan.unit}".rstrip()
    if row.runner:
        text += f", run by {_name(context, row.runner)}"
    silent = max(0.0, (context.clock.unix_ms() - stamp_ms(row.updated)) / 1000)
    return f"{text}; last report {format_duration(silent)} ago"


def _reasons(context: AdminContext, row: JobRow) -> tuple[Reason, ...]:
    id_ = job_name(row.job)
    if row.state is JobState.PAUSED:
        return (Reason(about=id_, waits_for="an operator, who paused it", next=f"dwctl job resume {id_}"),)
    if row.over:
        return ()
    if not row.runner:
        return (Reason(about=id_, waits_for="a node to take it, which takes a few seconds"),)
    topology = context.meta.view.topology()
    runner = topology.node(row.runner)
    if row.lease_until < context.clock.unix_ms() or runner is None or runner.liveness is Liveness.DOWN:
        about = f"{_name(context, row.runner)}, which runs it, went silent"
        return (Reason(about=about, waits_for="another node to take it, which takes a few seconds"),)
    return (Reason(about=f"step {row.step_name}", waits_for=row.blocker),) if row.blocker else ()


async def of_node(context: AdminContext, wanted: str) -> Explanation | None:
    topology = context.meta.view.topology()
    row = next((n for n in topology.nodes if wanted in {n.name, hex_id(n.node)}), None)
    if row is None:
        return None
    reasons = list(_jobs_about(context, {row.name, hex_id(row.node)}))
    if row.liveness is Liveness.DOWN:
        since = max(0.0, (context.clock.unix_ms() - stamp_ms(row.liveness_since)) / 1000)
        reasons.insert(
            0,
            Reason(
                about=f"node {row.name}",
                waits_for=f"its daemon, which has not answered for {format_duration(since)}",
                next=f"see why dwd does not run there; if it is gone for good: dwctl node remove {row.name}",
            ),
        )
    reasons += [_failed(device) for device in topology.devices if device.node == row.node and _is_failed(device)]
    return Explanation(
        id=wanted, what="node", standing=f"{row.name} is {row.liveness.name.lower()}", reasons=tuple(reasons)
    )


async def of_device(context: AdminContext, wanted: str) -> Explanation | None:
    row = next((d for d in context.meta.view.topology().devices if wanted == hex_id(d.device)), None)
    if row is None:
        return None
    standing = f"{row.state.name.lower().replace('_', ' ')}, on {_name(context, row.node)}"
    reasons = list(_jobs_about(context, {wanted}))
    if _is_failed(row):
        reasons.append(_failed(row))
    return Explanation(id=wanted, what="device", standing=standing, reasons=tuple(reasons))


def _is_failed(row: DeviceRow) -> bool:
    return row.state is DeviceState.FAILED


def _failed(row: DeviceRow) -> Reason:
    return Reason(
        about=f"device {hex_id(row.device)}",
        waits_for=f"its disk: {row.reason or 'its node does not serve it'}",
        next="bring the disk back where it was; if it is gone for good: "
        f"dwctl device retire {hex_id(row.device)} --force",
    )


def _jobs_about(context: AdminContext, names: set[str]) -> list[Reason]:
    """Live jobs that name the thing in an argument."""
    return [
        Reason(about=f"job {job_name(row.job)} ({row.kind})", waits_for=row.blocker or f"step {row.step_name}")
        for row in context.jobs.live()
        if any(argument.value in names for argument in row.arguments)
    ]


def _name(context: AdminContext, node: int) -> str:
    row = next((n for n in context.meta.view.topology().nodes if n.node == node), None)
    return row.name if row is not None else hex_id(node)


Explainer = Callable[[AdminContext, str], Awaitable[Explanation | None]]
EXPLAINERS: tuple[Explainer, ...] = (of_job, of_node, of_device)
