"""Which kinds of jobs this daemon knows: one line a kind, made from the parts of the node that it works with."""

from __future__ import annotations

from dwd.jobs.kinds import JobKind


def job_kinds() -> tuple[JobKind, ...]:
    return ()
