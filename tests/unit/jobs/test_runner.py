"""The runner: steps in order, retries with the reason as blocker, failures, wishes, giving back, stalls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dwd.base.errors import DwError, SafetyRefused, Unavailable
from dwd.base.ids import JobId, NodeId
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.jobs.leased import JobOptions
from dwd.meta.core.control.job_commands import AskJob, LeaseJob, ReportJob
from dwd.meta.core.control.job_rows import JobRow, JobState, JobWish
from dwd.meta.core.control.rows import Liveness
from dwd.meta.core.shard.queries import GetFences
from tests.twins.job_cluster import OPTIONS, JobCluster, JobNode
from tests.twins.virtual_time import run_mortally
from tests.unit.jobs.counting import STEPS, Counting, Meet, all_pieces, pieces

Story = Callable[[JobCluster, JobId], Coroutine[Any, Any, None]]
OPERATOR = NodeId(0)


def tell(
    story: Story,
    *,
    meets: Meet | None = None,
    verifies: Meet | None = None,
    options: JobOptions = OPTIONS,
    jobs: int = 1,
) -> None:
    """A cluster of three with one job, or the first of several."""

    async def run() -> None:
        cluster = JobCluster(lambda _node: (Counting(meets=meets, verifies=verifies),), options=options)
        plan = await Counting().plan({}, force=False)
        made = [cluster.create("test.count", {"number": str(number)}, plan) for number in range(jobs)]
        await story(cluster, made[0])
        assert [node.failures for node in cluster.nodes.values() if node.failures] == []

    run_mortally(run())


def ask(cluster: JobCluster, job: JobId, wish: JobWish) -> None:
    cluster.apply(OPERATOR, 0, AskJob(job=job, wish=wish), None)  # type: ignore[arg-type]


async def until(cluster: JobCluster, job: JobId, holds: Callable[[JobRow], bool]) -> JobRow:
    async with asyncio.timeout(600):
        while not holds(cluster.job(job)):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.05)
    return cluster.job(job)


def runner_of(cluster: JobCluster, row: JobRow) -> JobNode:
    return cluster.nodes[row.runner]


async def asleep(job: RunningJob) -> None:
    """A piece that takes half a minute."""
    await job.wait(30)


def test_steps_are_done_in_order_and_the_result_kept() -> None:
    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await cluster.over(job, seconds=10)
        assert (row.state, row.result, row.done, row.step) == (JobState.DONE, "counted", 9, len(STEPS))
        assert pieces(cluster) == all_pieces(3)
        assert (row.attempts, row.epoch) == (1, 1)

    tell(story)


def test_reports_are_written_at_most_once_a_second_and_the_last_one_by_the_steps_end() -> None:
    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await cluster.over(job)
        reports = [a.command for a in cluster.log if isinstance(a.command, ReportJob)]
        assert len(reports) == len(STEPS), "one at the end of each step: nothing took a second"
        assert row.done == 9

    tell(story, options=replace(OPTIONS, report=1.0))


def test_lease_is_kept_while_a_step_waits() -> None:
    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await cluster.over(job)
        assert (row.state, row.attempts) == (JobState.DONE, 1)

    tell(story, meets=asleep)


def test_passing_error_shows_as_blocker_and_is_tried_again_with_growing_pauses() -> None:
    failures: list[float] = []

    async def fails(_job: RunningJob) -> None:
        if len(failures) < 4:
            failures.append(asyncio.get_running_loop().time())
            raise Unavailable("x.y", "n4 does not answer")

    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await until(cluster, job, lambda row: bool(row.blocker))
        assert (row.blocker, row.state) == ("n4 does not answer; tried again", JobState.RUNNING)
        row = await cluster.over(job)
        assert (row.state, row.blocker, row.attempts) == (JobState.DONE, "", 1)
        pauses = [b - a for a, b in pairwise(failures)]
        assert pauses == sorted(pauses)
        assert pauses[-1] > 2 * pauses[0]

    tell(story, meets=fails)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (SafetyRefused("x.unsafe", "quorum would be lost", hint="say --force"), "x.unsafe", "say --force"),
        (ValueError("a bug"), "job.unexpected", "ValueError: a bug"),
    ],
)
@pytest.mark.parametrize("where", ["meets", "verifies"])
def test_job_fails_with_the_reason_when_an_error_does_not_pass(
    error: Exception, code: str, text: str, where: str
) -> None:
    async def fails(_job: RunningJob) -> None:
        raise error

    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await cluster.over(job)
        assert (row.state, row.error_code, row.result) == (JobState.FAILED, code, "")
        assert text in row.error
        assert len(cluster.finishes(job)) == 1
        assert row.step_name == ("verify" if where == "verifies" else "one")

    tell(story, **{where: fails})


@pytest.mark.parametrize("wish", [JobWish.PAUSE, JobWish.CANCEL])
def test_step_is_interrupted_when_an_operator_wishes_so(wish: JobWish) -> None:
    interrupted: list[bool] = []

    async def meets(job: RunningJob) -> None:
        if job.step == 1:
            try:
                await asyncio.sleep(100 if not interrupted else 0)
            except asyncio.CancelledError:
                interrupted.append(True)
                raise

    async def story(cluster: JobCluster, job: JobId) -> None:
        await until(cluster, job, lambda row: row.step == 1)
        ask(cluster, job, wish)
        await asyncio.sleep(3)
        assert interrupted == [True]
        if wish is JobWish.PAUSE:
            row = cluster.job(job)
            assert (row.state, row.runner, row.step) == (JobState.PAUSED, 0, 1)
            before = len(cluster.log)
            await asyncio.sleep(100)
            assert len(cluster.log) == before, "nobody touches a paused job"
            ask(cluster, job, JobWish.RESUME)
            assert (await cluster.over(job)).state is JobState.DONE
            assert pieces(cluster) == all_pieces(3)
        else:
            row = await cluster.over(job)
            assert (row.state, row.step) == (JobState.CANCELLED, 1)
            assert cluster.nodes[NodeId(1)].topology().setting("undone") == "yes"
            assert pieces(cluster) < all_pieces(3)

    tell(story, meets=meets)


def test_job_is_cancelled_also_when_nobody_ran_it_yet() -> None:
    async def story(cluster: JobCluster, job: JobId) -> None:
        ask(cluster, job, JobWish.CANCEL)
        row = await cluster.over(job)
        assert (row.state, pieces(cluster)) == (JobState.CANCELLED, set())
        assert cluster.nodes[NodeId(1)].topology().setting("undone") == "yes"

    tell(story)


def test_another_node_goes_on_at_once_when_the_runners_node_stops() -> None:
    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await until(cluster, job, lambda row: row.step == 1 and bool(row.runner))
        stopped = runner_of(cluster, row)
        before = cluster.clock.monotonic()
        await stopped.tasks.close()
        row = cluster.job(job)
        assert (row.state, row.runner, row.step) == (JobState.QUEUED, 0, 1)
        row = await until(cluster, job, lambda row: bool(row.runner))
        assert row.runner != stopped.id
        assert cluster.clock.monotonic() - before < 5
        await cluster.over(job)
        assert pieces(cluster) == all_pieces(3)

    tell(story, meets=asleep)


@pytest.mark.parametrize("known", [True, False])
def test_another_node_takes_over_when_the_runner_dies(*, known: bool) -> None:
    """At once when the cluster knows that it is down, else when its lease is over."""

    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await until(cluster, job, lambda row: row.step == 1)
        dead, died = row.runner, cluster.clock.monotonic()
        cluster.kill(dead)
        if not known:
            cluster.judge(dead, Liveness.UP)
        row = await until(cluster, job, lambda row: row.runner not in {0, dead})
        waited = cluster.clock.monotonic() - died
        assert (waited < 5) if known else (OPTIONS.lease - OPTIONS.renew < waited < OPTIONS.lease + 10)
        assert (row.step, row.attempts) == (1, 2)
        await cluster.over(job)
        assert pieces(cluster) == all_pieces(3)

    tell(story, meets=asleep)


def test_runner_stops_acting_when_its_reports_do_not_get_through() -> None:
    acted: list[float] = []

    async def meets(job: RunningJob) -> None:
        if job.step == 1:
            while job.fence.epoch == 1:
                acted.append(asyncio.get_running_loop().time())
                await job.wait(0.5)

    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await until(cluster, job, lambda row: row.step == 1)
        cut = cluster.clock.monotonic()
        cluster.cut_off.add(row.runner)
        await cluster.over(job)
        assert acted[-1] < cut + OPTIONS.lease + 1
        assert acted[-1] > cut + OPTIONS.lease - OPTIONS.renew - 2, "it went on while it could know that it might"

    tell(story, meets=meets)


def test_step_that_stands_still_is_given_to_another_node() -> None:
    stuck: list[NodeId] = []

    async def meets(job: RunningJob) -> None:
        if job.step == 1 and not stuck:
            stuck.append(NodeId(job.fence.epoch))
            await asyncio.Event().wait()

    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await cluster.over(job)
        assert (row.state, row.attempts) == (JobState.DONE, 2)

    tell(story, meets=meets, options=replace(OPTIONS, stall=60.0))


def test_jobs_are_spread_over_the_nodes_and_bounded_on_each() -> None:
    async def story(cluster: JobCluster, _first: JobId) -> None:
        most: dict[NodeId, int] = {}
        async with asyncio.timeout(600):
            while live := cluster.nodes[NodeId(1)].live_jobs():
                for node in cluster.nodes:
                    most[node] = max(most.get(node, 0), sum(row.runner == node for row in live))
                await asyncio.sleep(1)
        assert all(0 < count <= 2 for count in most.values()), most

    tell(story, meets=asleep, jobs=9, options=replace(OPTIONS, at_once=2))


def test_nodes_rarely_ask_for_the_same_lease() -> None:
    async def story(cluster: JobCluster, _first: JobId) -> None:
        async with asyncio.timeout(600):
            while cluster.nodes[NodeId(1)].live_jobs():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(1)
        refused = [command for _, command, _ in cluster.refused if isinstance(command, LeaseJob)]
        assert len(refused) <= 2

    tell(story, jobs=12)


def test_job_of_a_kind_that_no_node_knows_is_left_alone() -> None:
    async def story(cluster: JobCluster, job: JobId) -> None:
        other = cluster.create("test.later", {}, JobPlan(steps=("x",)))
        await cluster.over(job)
        await asyncio.sleep(30)
        assert (cluster.job(other).state, cluster.job(other).attempts) == (JobState.QUEUED, 0)

    tell(story)


def test_shards_are_told_of_a_new_lease_before_its_steps_go_on() -> None:
    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await until(cluster, job, lambda row: row.step == 1)
        cluster.kill(row.runner)
        await until(cluster, job, lambda row: row.step == 1 and row.epoch == 2 and row.done > 3)
        for group in cluster.machines:
            if group:
                found = await cluster.nodes[NodeId(1)].read_group(group, GetFences(), deadline=0.0)
                assert [(f.job, f.epoch) for f in found.fences] == [(job, 2)], group

    tell(story, meets=asleep)


def test_job_goes_on_while_a_shard_does_not_answer_its_new_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unanswered(self: JobNode, group: int, command: Any, **options: Any) -> Any:
        if group == 2 and type(command).__name__ == "HoldFence":
            await asyncio.sleep(100)
            raise DwError("test.never", "not reached")
        return await real(self, group, command, **options)

    real: Any = JobNode.shard
    monkeypatch.setattr(JobNode, "shard", unanswered)

    async def story(cluster: JobCluster, job: JobId) -> None:
        row = await until(cluster, job, lambda row: row.step == 1)
        cluster.kill(row.runner)
        assert (await cluster.over(job)).state is JobState.DONE

    tell(story, meets=asleep)
