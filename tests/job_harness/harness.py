"""Kills the runner of a job at each of its proposals, and pauses it past its lease and wakes it: for any kind of job.

A kind is tried as a `Scenario`: how it is made for a node of the cluster in memory, with which arguments, what must be
so at the end. `survive` first runs it undisturbed and counts what the runner proposes; then once for each proposal
and each harm, from the same seed. Every run must end in the wanted state, end once, and no command of a former
lease may take effect after one of its successor's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dwd.base.ids import NodeId
from dwd.jobs.kinds import JobKind
from dwd.meta.core.apply import Command
from dwd.meta.core.control.job_commands import LeaseJob
from dwd.meta.core.control.job_rows import JobRow, JobState
from tests.twins.job_cluster import JobCluster, JobNode
from tests.twins.virtual_time import run_mortally

HARMS = ("kill before", "kill after", "pause before", "pause after")
PAUSE_SECONDS = 60.0
"""Past every lease, and long enough for a successor to be well on its way."""


def nothing(_cluster: JobCluster) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`check` and `prepare` look at, or change, the cluster between proposals."""

    kinds: Callable[[JobNode], Sequence[JobKind]]
    kind: str
    arguments: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[JobCluster], None] = nothing
    check: Callable[[JobCluster, JobRow], None]
    ends: JobState = JobState.DONE
    nodes: int = 3
    shards: int = 2


@dataclass
class Harm:
    """What happens to whoever makes the proposal of that number."""

    at: int
    how: str
    seen: int = 0
    struck: NodeId | None = None

    def hook(self, node: JobNode, command: Command, when: str) -> None:
        if isinstance(command, LeaseJob):
            return
        if when == "before":
            self.seen += 1
        if self.struck is not None or self.seen != self.at or not self.how.endswith(when):
            return
        self.struck = node.id
        if self.how.startswith("kill"):
            node.cluster.kill(node.id)
        else:
            node.cluster.pause(node.id, PAUSE_SECONDS)


def survive(scenario: Scenario) -> int:
    """The number of runs. Raises AssertionError, naming the harm, where one did not end as it must."""
    calm = Harm(at=0, how="")
    run_mortally(_once(scenario, calm))
    runs = 1
    for at in range(1, calm.seen + 1):
        for how in HARMS:
            harm = Harm(at=at, how=how)
            try:
                run_mortally(_once(scenario, harm))
            except BaseException as error:
                error.add_note(f"proposal {at} of {calm.seen}, {how}, node {harm.struck}")
                raise
            runs += 1
    return runs


async def _once(scenario: Scenario, harm: Harm) -> None:
    cluster = JobCluster(scenario.kinds, nodes=scenario.nodes, shards=scenario.shards)
    scenario.prepare(cluster)
    kind = next(k for k in scenario.kinds(cluster.nodes[NodeId(1)]) if k.name == scenario.kind)
    plan = await kind.plan(scenario.arguments, force=False)
    cluster.hook = harm.hook
    job = cluster.create(scenario.kind, scenario.arguments, plan)
    row = await cluster.over(job)
    await asyncio.sleep(2 * PAUSE_SECONDS)  # whoever slept wakes, and does its worst
    assert cluster.job(job) == row, "a job that was over changed"
    assert row.state is scenario.ends, (row.state, row.error)
    assert len(cluster.finishes(job)) == 1
    if harm.struck is not None and harm.how == "kill before":
        assert row.attempts > 1, "it went on elsewhere"
    cluster.check_order(job)
    assert [node.failures for node in cluster.nodes.values() if node.failures] == []
    scenario.check(cluster, row)
