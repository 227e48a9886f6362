"""Whatever order crashes, pauses, cuts and operators' wishes come in: a job ends once, with every effect, or undone."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from dwd.base.errors import Conflict
from dwd.base.ids import CONTROL_GROUP, JobId, NodeId
from dwd.jobs.kinds import RunningJob
from dwd.meta.core.control.job_commands import AskJob
from dwd.meta.core.control.job_rows import JobState, JobWish
from dwd.meta.core.control.rows import Liveness
from tests.twins.job_cluster import JobCluster
from tests.twins.virtual_time import run_mortally
from tests.unit.jobs.counting import Counting, all_pieces, pieces

NODES = 4
EACH = 2
QUIET_SECONDS = 200.0
"""Past every pause and every lease."""
Event = tuple[float, str, int]

events = st.lists(
    st.tuples(
        st.floats(0.0, 30.0),
        st.sampled_from(["kill", "sleep", "nap", "cut", "join", "down", "up", "pause", "resume", "cancel"]),
        st.integers(1, NODES),
    ),
    max_size=12,
)


async def brief(job: RunningJob) -> None:
    await job.wait(1.5)


def strike(cluster: JobCluster, job: JobId, what: str, number: int) -> None:
    node = NodeId(number)
    match what:
        case "kill" if number > NODES // 2:  # half of them stay alive
            cluster.kill(node)
        case "sleep":
            cluster.pause(node, 60.0)
        case "nap":
            cluster.pause(node, 5.0)
        case "cut":
            cluster.cut_off.add(node)
        case "join":
            cluster.cut_off.discard(node)
        case "down" | "up":
            cluster.judge(node, Liveness[what.upper()])
        case "pause" | "resume" | "cancel":
            with suppress(Conflict):  # it is over, or being cancelled
                cluster.apply(NodeId(0), CONTROL_GROUP, AskJob(job=job, wish=JobWish[what.upper()]), None)
        case _:
            pass


async def live(happenings: list[Event], seed: int) -> None:
    kinds = [Counting(each=EACH, meets=brief)]
    cluster = JobCluster(lambda _node: kinds, nodes=NODES, seed=seed)
    job = cluster.create("test.count", {}, await kinds[0].plan({}, force=False))
    cancelled = False
    for delay, what, number in happenings:
        await asyncio.sleep(delay)
        if what == "cancel" and not cluster.job(job).over:
            cancelled = True
        strike(cluster, job, what, number)
    cluster.cut_off.clear()
    if cluster.job(job).state is JobState.PAUSED:
        strike(cluster, job, "resume", 1)
    row = await cluster.over(job)
    log = len(cluster.log)
    await asyncio.sleep(QUIET_SECONDS)
    assert cluster.job(job) == row
    assert [a for a in cluster.log[log:] if a.fence is not None] == [], "nothing of the job takes effect after its end"
    assert len(cluster.finishes(job)) == 1
    cluster.check_order(job)
    assert row.state is (JobState.CANCELLED if cancelled else JobState.DONE), row
    if cancelled:
        assert cluster.nodes[NodeId(1)].topology().setting("undone") == "yes"
    else:
        assert pieces(cluster) == all_pieces(EACH)
    assert [node.failures for node in cluster.nodes.values() if node.failures] == []


@settings(max_examples=40, deadline=None)
@given(happenings=events, seed=st.integers(0, 1 << 30))
def test_job_ends_once_whatever_happens_in_whatever_order(happenings: list[Event], seed: int) -> None:
    run_mortally(live(happenings, seed))
