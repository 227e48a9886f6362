"""A node notices that it was removed, writes it down and does not run again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import SafetyRefused, Unavailable
from dwd.base.ids import NodeId, Stamp
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import RemovedNodeRow
from dwd.node.paths import Paths
from dwd.node.removal import SILENCE_SECONDS, RemovalWorker, refuse_removed, require_not_removed, write_removed
from dwd.runtime.os_files import OsFiles
from tests.twins.manual_clock import ManualClock
from tests.unit.node.rows import CLUSTER, members

ME = NodeId(1)
IDENTITY: Any = SimpleNamespace(node_id=ME, cluster_id=CLUSTER)


class World:
    """Node 1 and the nodes it knows. `answers`: what each says to a call, None for all is well."""

    def __init__(self, *others: int, topology: Topology | None = None) -> None:
        self.answers: dict[NodeId, Exception | None] = {NodeId(n): None for n in others}
        self.silence = SILENCE_SECONDS + 1
        self.asked: list[NodeId] = []
        self.told_by: list[NodeId] = []
        addresses = {ME: "me:1", **{NodeId(n): f"h{n}:1" for n in others}}
        self.worker = RemovalWorker(
            node=ME,
            topology=lambda: topology,
            addresses=lambda: addresses,
            last_contact=lambda _: self.silence,
            ask=self.ask,
            on_removed=self.removed,
        )

    async def ask(self, node: NodeId) -> None:
        self.asked.append(node)
        answer = self.answers[node]
        if answer is not None:
            raise answer

    async def removed(self, told_by: NodeId) -> None:
        self.told_by.append(told_by)


async def test_a_node_asks_nobody_when_it_hears_of_somebody() -> None:
    world = World(2, 3)
    world.silence = SILENCE_SECONDS
    await world.worker.work()
    assert world.asked == []
    alone = World()
    await alone.worker.work()
    assert alone.told_by == []


async def test_a_silent_node_ends_when_one_of_those_it_knows_says_it_was_removed() -> None:
    world = World(2, 3, 4, 5, 6)
    world.answers = dict.fromkeys(world.answers, Unavailable("x", "away"))
    await world.worker.work()
    assert world.told_by == [], "silence alone proves nothing"
    world.answers[NodeId(6)] = refuse_removed(ME)
    for _ in range(5):
        await world.worker.work()
    assert set(world.told_by) == {NodeId(6)}
    assert set(world.asked) == {NodeId(n) for n in (2, 3, 4, 5, 6)}, "every one is asked sooner or later"


async def test_a_node_ends_when_its_own_copy_of_control_says_it_was_removed() -> None:
    gone = RemovedNodeRow(node=ME, name="n1", removed=Stamp(1))
    world = World(2, topology=replace(members(2), removed=(gone,)))
    await world.worker.work()
    assert (world.told_by, world.asked) == ([ME], [])


def test_a_removed_node_does_not_start_again(tmp_path: Path) -> None:
    paths, files = Paths(identity=tmp_path / "identity", data=tmp_path / "data"), OsFiles()
    files.make_directory(paths.identity)
    require_not_removed(files, paths, IDENTITY)
    error = write_removed(files, paths, IDENTITY, NodeId(9), ManualClock())
    with pytest.raises(SafetyRefused) as refused:
        require_not_removed(files, paths, IDENTITY)
    assert refused.value.code == error.code == "node.removed"
    assert str(paths.identity) in refused.value.hint
    assert "dwd join" in refused.value.hint
    require_not_removed(files, paths, SimpleNamespace(node_id=NodeId(7), cluster_id=CLUSTER))
    assert json.loads(paths.removed.read_bytes())["told_by"] == f"{9:016x}"
