"""Verbs that ask every node: recounts and workers, over real calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dwd.admin.context import RecountTotals
from dwd.admin.rpc import recount, workers
from dwd.base.errors import Corrupt, DwError, InvalidArgument, NotFound, Unavailable
from dwd.base.ids import GroupId, hex_id
from dwd.meta.core.control.rows import Liveness
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.runtime.worker import Progress
from dwd.runtime.workers import WorkerState
from tests.twins.meta_nodes import until
from tests.unit.admin.conftest import AdminCluster, AdminNode

IDLE_SECONDS = 3_600.0


def counted(*groups: int, **totals: int) -> tuple[RecountTotals, ...]:
    """What a node tells on the way, and at last."""
    return (RecountTotals(), RecountTotals(groups=tuple(GroupId(group) for group in groups), **totals))


async def recounted(node: AdminNode, *, verify_pages: bool = False) -> list[pb.RecountProgress]:
    return [progress async for progress in recount.everywhere(node.context, verify_pages=verify_pages)]


async def test_totals_are_the_sum_of_what_each_node_counted(admins: AdminCluster) -> None:
    for number in (1, 2, 3):
        await admins.add(number)
    admins.nodes[1].blocks.progress = counted()
    admins.nodes[2].blocks.progress = counted(1, blocks_done=5, fragments_expected=30, fragments_bad=1)
    admins.nodes[3].blocks.progress = counted(2, blocks_done=7, fragments_expected=42, blocks_degraded=2)
    told = await recounted(admins.nodes[1])
    assert [progress.finished for progress in told[:-1]] == [False] * (len(told) - 1)
    last = told[-1]
    assert (last.finished, last.blocks_done, last.fragments_expected) == (True, 12, 72)
    assert (last.fragments_bad, last.blocks_degraded) == (1, 2)


@pytest.mark.parametrize("verify_pages", [False, True])
async def test_every_node_reads_pages_only_when_asked_to(admins: AdminCluster, *, verify_pages: bool) -> None:
    for number, group in ((1, 1), (2, 2)):
        (await admins.add(number)).blocks.progress = counted(group)
    await recounted(admins.nodes[1], verify_pages=verify_pages)
    assert [admins.nodes[number].blocks.verified for number in (1, 2)] == [[verify_pages], [verify_pages]]


@pytest.mark.parametrize("where", [1, 2])
async def test_recount_is_unavailable_when_a_node_breaks_off(admins: AdminCluster, where: int) -> None:
    for number, group in ((1, 1), (2, 2)):
        (await admins.add(number)).blocks.progress = counted(group)
    admins.nodes[where].blocks.failure = Corrupt("test.index", "the index of a device is torn")
    with pytest.raises(Unavailable, match="torn") as caught:
        await recounted(admins.nodes[1])
    assert caught.value.code == "recount.broken"


async def test_recount_is_unavailable_when_a_node_cannot_be_reached(admins: AdminCluster) -> None:
    (await admins.add(1)).blocks.progress = counted(1, 2)
    await admins.add(2, serving=False)
    with pytest.raises(Unavailable) as caught:
        await recounted(admins.nodes[1])
    assert caught.value.code == "recount.broken"


async def test_recount_is_unavailable_when_no_node_leads_a_shard(admins: AdminCluster) -> None:
    for number, group in ((1, (1,)), (2, ())):
        (await admins.add(number)).blocks.progress = counted(*group)
    with pytest.raises(Unavailable) as caught:
        await recounted(admins.nodes[1])
    assert caught.value.code == "recount.no_leader"


async def test_recount_passes_a_node_over_when_it_is_known_to_be_down(admins: AdminCluster) -> None:
    (await admins.add(1)).blocks.progress = counted(1, 2, blocks_done=3)
    await admins.add(2, serving=False)
    admins.rows[1] = replace(admins.rows[1], liveness=Liveness.DOWN)
    assert (await recounted(admins.nodes[1]))[-1].blocks_done == 3


class Worker:
    idle_seconds = IDLE_SECONDS

    def __init__(self, name: str, failure: DwError | None = None) -> None:
        self.name = name
        self.failure = failure

    async def work(self) -> Progress:
        if self.failure is not None:
            raise self.failure
        return Progress.IDLE


@pytest.fixture
async def working(admins: AdminCluster) -> AdminCluster:
    """n1 and n2 have worked once and rest; nothing answers for n3."""
    for number in (1, 2):
        (await admins.add(number)).workers.add(Worker("blocks.scrub"))
    await admins.add(3, serving=False)
    await until(lambda: all(state(admins.nodes[n]) is WorkerState.IDLE for n in (1, 2)))
    return admins


def state(node: AdminNode) -> WorkerState:
    return node.workers.snapshot()[0].state


def setting(**what: Any) -> pb.SetWorkerRequest:
    return pb.SetWorkerRequest(name="blocks.scrub", **what)


async def test_workers_of_every_node_that_answers_are_listed(working: AdminCluster) -> None:
    context = working.nodes[1].context
    listed = await workers.list_workers(context, local=False)
    assert [(w.node, w.name, w.state, w.runs) for w in listed.workers] == [
        (hex_id(1), "blocks.scrub", "idle", 1),
        (hex_id(2), "blocks.scrub", "idle", 1),
    ]
    assert [w.node for w in (await workers.list_workers(context, local=True)).workers] == [hex_id(1)]


async def test_error_of_a_worker_is_listed_while_it_fails_and_not_once_it_recovered(admins: AdminCluster) -> None:
    node = await admins.add(1)
    worker = Worker("blocks.scrub", NotFound("test.gone", "the device is gone"))
    node.workers.add(worker)
    await until(lambda: state(node) is WorkerState.BACKING_OFF)
    (shown,) = (await workers.list_workers(node.context, local=True)).workers
    assert shown.last_error == "the device is gone (test.gone)"
    worker.failure = None
    await until(lambda: state(node) is WorkerState.IDLE)
    (shown,) = (await workers.list_workers(node.context, local=True)).workers
    assert (shown.last_error, shown.runs) == ("", 2)


@pytest.mark.parametrize("name", ["n2", hex_id(2)])
async def test_setting_reaches_the_named_node_and_no_other(working: AdminCluster, name: str) -> None:
    reply = await workers.set_worker(working.nodes[1].context, setting(node=name, paused=True, pace=7.0))
    await until(lambda: state(working.nodes[2]) is WorkerState.PAUSED)
    assert reply.changed == 1
    assert [working.nodes[n].workers.snapshot()[0].pace for n in (1, 2)] == [pytest.approx(2.0), 7.0]
    assert state(working.nodes[1]) is WorkerState.IDLE
    await workers.set_worker(working.nodes[1].context, setting(node=name, paused=False))
    await until(lambda: state(working.nodes[2]) is WorkerState.IDLE)


async def test_setting_reaches_all_nodes_when_none_is_named(working: AdminCluster) -> None:
    del working.rows[2]
    assert (await workers.set_worker(working.nodes[1].context, setting(pace=0.0))).changed == 2
    assert [working.nodes[n].workers.snapshot()[0].pace for n in (1, 2)] == [0.0, 0.0]


async def test_setting_is_unavailable_when_a_node_does_not_answer(working: AdminCluster) -> None:
    with pytest.raises(Unavailable):
        await workers.set_worker(working.nodes[1].context, setting(node="n3", paused=True))


@pytest.mark.parametrize("node", ["n1", "n2"])
async def test_setting_is_refused_when_worker_or_node_is_unknown(working: AdminCluster, node: str) -> None:
    context = working.nodes[1].context
    for request, code in (
        (pb.SetWorkerRequest(name="blocks.bake", node=node, paused=True), "worker.not_found"),
        (setting(node=node + "x", paused=True), "node.not_found"),
    ):
        with pytest.raises(NotFound) as caught:
            await workers.set_worker(context, request)
        assert caught.value.code == code


async def test_setting_reaches_every_other_node_when_one_does_not_answer(working: AdminCluster) -> None:
    """The one that is away comes first."""
    working.rows.insert(0, working.rows.pop())
    with pytest.raises(Unavailable) as caught:
        await workers.set_worker(working.nodes[1].context, setting(pace=0.0))
    assert "n3" in caught.value.message
    assert [working.nodes[n].workers.snapshot()[0].pace for n in (1, 2)] == [0.0, 0.0]


@pytest.mark.parametrize("pace", [-1.0, float("inf"), float("nan")])
async def test_pace_is_refused_before_any_node_took_it_when_out_of_range(working: AdminCluster, pace: float) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await workers.set_worker(working.nodes[1].context, setting(node="n2", pace=pace, paused=True))
    assert caught.value.code == "worker.bad_pace"
    assert state(working.nodes[2]) is WorkerState.IDLE
