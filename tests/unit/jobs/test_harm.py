"""Whatever happens to the node that runs a job: it ends once, and no late runner changes anything."""

from __future__ import annotations

from dwd.jobs.kinds import RunningJob
from dwd.meta.core.control.job_rows import JobRow
from tests.job_harness.harness import Scenario, survive
from tests.twins.job_cluster import JobCluster
from tests.unit.jobs.counting import Counting, all_pieces, pieces


def check(cluster: JobCluster, row: JobRow) -> None:
    assert pieces(cluster) == all_pieces(1)
    assert row.result == "counted"
    assert row.done == row.total


async def slowly(job: RunningJob) -> None:
    """So slowly that a runner which wakes finds its successor at work."""
    await job.wait(25.0)


def test_job_ends_once_when_its_runner_dies_or_sleeps_past_its_lease_at_any_moment() -> None:
    scenario = Scenario(kinds=lambda _node: (Counting(each=1, meets=slowly),), kind="test.count", check=check)
    assert survive(scenario) > 40
