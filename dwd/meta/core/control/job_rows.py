"""Jobs as values: what was planned, how far it is, who runs it (metadata.md, "Jobs")."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from dwd.base.ids import JobId, NodeId, Stamp


class JobState(IntEnum):
    QUEUED = 0
    """Waits for a runner."""
    RUNNING = 1
    """Leased, or was until its runner went silent: then the next one takes it."""
    PAUSED = 2
    CANCELLING = 3
    """A runner undoes what must not stay."""
    CANCELLED = 4
    DONE = 5
    FAILED = 6


class JobWish(IntEnum):
    """What operators ask of a live job."""

    PAUSE = 0
    RESUME = 1
    CANCEL = 2


OVER = (JobState.CANCELLED, JobState.DONE, JobState.FAILED)
LEASABLE = (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING)
WORKING = (JobState.RUNNING, JobState.CANCELLING)
"""States in which whoever holds the lease acts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArgument:
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What a job is going to do, as it is shown before anything is done."""

    steps: tuple[str, ...]
    """A few words each, in order."""
    lines: tuple[str, ...] = ()
    """What people read and agree to."""
    warnings: tuple[str, ...] = ()
    estimates: tuple[str, ...] = ()
    """Lines that clients' writes change from one minute to the next (bytes to move): shown below `lines`."""
    total: int = 0
    unit: str = ""
    """Of progress: "bytes", "blocks"; empty when only the steps count."""
    details: bytes = b""
    """Canonical JSON of what the steps work from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    job: JobId
    kind: str
    arguments: tuple[JobArgument, ...]
    """By name."""
    plan: JobPlan
    plan_hash: str
    state: JobState
    step: int
    """Index into the plan's steps; their number: all are done, the job verifies."""
    done: int
    total: int
    blocker: str
    """What the job waits for now; empty when it goes on."""
    cursor: bytes
    """Where the step goes on; the kind's own."""
    result: str
    error_code: str
    error: str
    runner: NodeId
    """Who holds the lease; 0 for nobody."""
    epoch: int
    """Rises with each lease, pause and cancel: what was sent under an older one is refused."""
    lease_until: int
    """Unix milliseconds, by the clock of the log."""
    attempts: int
    asked_by: str
    created: Stamp
    updated: Stamp

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def step_name(self) -> str:
        """The present step in words."""
        if self.state is JobState.CANCELLING:
            return "undo"
        return self.plan.steps[self.step] if self.step < len(self.plan.steps) else "verify"


def arguments_of(arguments: Mapping[str, str]) -> tuple[JobArgument, ...]:
    return tuple(JobArgument(name=name, value=arguments[name]) for name in sorted(arguments))


def plan_hash(kind: str, arguments: tuple[JobArgument, ...], plan: JobPlan) -> str:
    """SHA-256, in hex, of everything that is agreed to. Not of estimates and totals, which change by themselves."""
    agreed = {
        "kind": kind,
        "arguments": {argument.name: argument.value for argument in arguments},
        "steps": plan.steps,
        "lines": plan.lines,
        "warnings": plan.warnings,
        "details": base64.b64encode(plan.details).decode(),
    }
    return hashlib.sha256(_canonical(agreed)).hexdigest()


def encode_plan(plan: JobPlan) -> bytes:
    return _canonical(
        {
            "steps": plan.steps,
            "lines": plan.lines,
            "warnings": plan.warnings,
            "estimates": plan.estimates,
            "total": plan.total,
            "unit": plan.unit,
            "details": base64.b64encode(plan.details).decode(),
        }
    )


def decode_plan(encoded: bytes) -> JobPlan:
    document: dict[str, Any] = json.loads(encoded)
    return JobPlan(
        steps=tuple(document["steps"]),
        lines=tuple(document["lines"]),
        warnings=tuple(document["warnings"]),
        estimates=tuple(document["estimates"]),
        total=document["total"],
        unit=document["unit"],
        details=base64.b64decode(document["details"]),
    )


def encode_arguments(arguments: tuple[JobArgument, ...]) -> str:
    return _canonical({argument.name: argument.value for argument in arguments}).decode()


def decode_arguments(encoded: str) -> tuple[JobArgument, ...]:
    return arguments_of(json.loads(encoded))


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )
