"""When the leaders of groups raise their active version."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import Conflict, InvalidArgument, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, Stamp
from dwd.meta.core.control.rows import SettingRow
from dwd.meta.workers.version import VersionWorker
from dwd.runtime.worker import Progress
from tests.twins.manual_clock import ManualClock
from tests.unit.node.rows import node_row, topology

SHARD, ELSEWHERE = GroupId(1), GroupId(2)


class Cluster:
    """Host and client of one node that leads control and a shard. `known`: what each node says it knows."""

    def __init__(self, *known: int, limit: str = "", newest: int = 9) -> None:
        settings = (SettingRow(name="version_max", value=limit, changed=Stamp(1)),) if limit else ()
        nodes = [node_row(n, version_newest=version) for n, version in enumerate(known, start=1)]
        self.view = SimpleNamespace(topology=lambda: replace(topology(*nodes), settings=settings))
        self.versions = {CONTROL_GROUP: 1, SHARD: 1, ELSEWHERE: 1}
        self.asked: list[tuple[GroupId, int]] = []
        self.failing: dict[GroupId, Exception] = {}
        me: Any = self
        self.worker = VersionWorker(host=me, client=me, clock=ManualClock(), newest=newest)

    def groups(self) -> tuple[GroupId, ...]:
        return tuple(self.versions)

    def leads(self, group: GroupId) -> bool:
        return group != ELSEWHERE

    def version(self, group: GroupId) -> int:
        return self.versions[group]

    async def set_version(self, group: GroupId, version: int, *, deadline: float) -> None:
        assert deadline > 0
        self.asked.append((group, version))
        if group in self.failing:
            raise self.failing[group]
        self.versions[group] = version


@pytest.mark.parametrize(
    ("known", "limit", "newest"),
    [((2, 2, 1), "", 9), ((1,), "", 9), ((), "", 9), ((2, 2), "1", 9), ((2, 2), "0", 9), ((3, 3), "", 1)],
    ids=["one node does not", "own row does not", "nobody known", "held back", "held back to none", "binary does not"],
)
async def test_version_stays_when_not_all_know_the_next_or_the_setting_forbids(
    known: tuple[int, ...], limit: str, newest: int
) -> None:
    cluster = Cluster(*known, limit=limit, newest=newest)
    assert await cluster.worker.work() is Progress.IDLE
    assert cluster.asked == []


async def test_groups_led_here_go_up_by_single_steps_when_all_nodes_know_the_next() -> None:
    cluster = Cluster(3, 4, 3)
    assert await cluster.worker.work() is Progress.BUSY
    assert cluster.versions == {CONTROL_GROUP: 2, SHARD: 2, ELSEWHERE: 1}
    assert await cluster.worker.work() is Progress.BUSY
    assert await cluster.worker.work() is Progress.IDLE
    assert cluster.asked == [(CONTROL_GROUP, 2), (SHARD, 2), (CONTROL_GROUP, 3), (SHARD, 3)]


async def test_groups_go_up_to_the_setting_when_all_nodes_know_more() -> None:
    cluster = Cluster(5, 5, limit="2")
    await cluster.worker.work()
    assert await cluster.worker.work() is Progress.IDLE
    assert cluster.versions[SHARD] == 2


async def test_other_groups_are_raised_when_one_cannot_be() -> None:
    cluster = Cluster(2)
    cluster.failing[CONTROL_GROUP] = Unavailable("meta.unreachable", "no leader")
    with pytest.raises(Unavailable):
        await cluster.worker.work()
    assert cluster.versions[SHARD] == 2


async def test_worker_rests_when_another_leader_raised_the_group() -> None:
    cluster = Cluster(2)
    cluster.failing = {group: Conflict("meta.version_active", "it is") for group in (CONTROL_GROUP, SHARD)}
    assert await cluster.worker.work() is Progress.IDLE


@pytest.mark.parametrize("limit", ["two", "-1", "1.0"])
async def test_setting_is_refused_when_it_is_no_number(limit: str) -> None:
    with pytest.raises(InvalidArgument):
        await Cluster(2, limit=limit).worker.work()
