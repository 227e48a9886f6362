"""Verbs that ask every node: workers, over real calls."""

from __future__ import annotations

from typing import Any

import pytest

from dwd.admin.rpc import workers
from dwd.base.errors import DwError, InvalidArgument, NotFound, Unavailable
from dwd.base.ids import hex_id
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.runtime.worker import Progress
from dwd.runtime.workers import WorkerState
from tests.twins.meta_nodes import until
from tests.unit.admin.conftest import AdminCluster, AdminNode

IDLE_SECONDS = 3_600.0


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
