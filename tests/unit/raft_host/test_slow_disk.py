"""A slow log disk: how it is told from a hiccup, and what its node does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.ids import NodeId
from dwd.raft.disk_pace import LOOKS_TO_SLOW, LOOKS_TO_SOUND, DiskPace
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, until

LIMIT = 0.5
PEERS = (NodeId(2), NodeId(3))


class Case:
    """One look a second, at a disk whose writes take what it is told, beside peers whose writes take `peers`."""

    def __init__(self, *, peers: float = 0.002) -> None:
        self.pace = DiskPace(limit_seconds=LIMIT)
        self.peers = peers
        self.now = 0.0
        self.changes: list[bool] = []

    def run(self, looks: int, write: float, *, writes: int = 20) -> DiskPace:
        for _ in range(looks):
            self.now += 1.0
            for _ in range(writes):
                self.pace.note(write, self.now)
            for peer in PEERS:
                self.pace.heard(peer, self.peers, self.now)
            if self.pace.judge(self.now):
                self.changes.append(self.pace.slow)
        return self.pace


@pytest.mark.parametrize("write", [2 * LIMIT, LIMIT / 4], ids=["over the limit", "much slower than the peers"])
def test_disk_is_slow_when_it_stays_so(write: float) -> None:
    case = Case()
    assert not case.run(LOOKS_TO_SLOW - 1, write).slow
    assert case.run(1, write).slow


def test_disk_is_not_slow_when_the_peers_are_no_faster() -> None:
    assert not Case(peers=1.5 * LIMIT).run(60, 2 * LIMIT).slow


def test_disk_is_not_slow_when_its_writes_are_short_however_fast_the_peers_are() -> None:
    assert not Case(peers=0.0001).run(60, 0.05).slow


def test_disk_is_not_slow_when_it_had_a_hiccup() -> None:
    case = Case()
    case.run(10, 0.002)
    case.pace.note(5.0, case.now)
    case.pace.note(5.0, case.now)
    assert not case.run(20, 0.002).slow


def test_disk_is_not_judged_when_it_writes_next_to_nothing() -> None:
    assert not Case().run(60, 2 * LIMIT, writes=1).slow


def test_verdict_does_not_go_to_and_fro_when_the_disk_does() -> None:
    case = Case()
    case.run(20, 2 * LIMIT)
    for _ in range(10):
        case.run(LOOKS_TO_SOUND // 2, 0.002)
        case.run(3, 2 * LIMIT)
    assert case.changes == [True]


def test_disk_is_sound_again_when_it_is_fast_for_long() -> None:
    case = Case()
    case.run(20, 2 * LIMIT)
    case.run(2 * LOOKS_TO_SOUND, 0.002)
    assert case.changes == [True, False]


def test_disk_is_sound_again_when_nothing_was_written_for_long() -> None:
    case = Case()
    case.run(20, 2 * LIMIT)
    case.run(2 * LOOKS_TO_SOUND, 0.0, writes=0)
    assert case.changes == [True, False]


async def test_leadership_goes_to_a_faster_disk_and_stays_there_when_the_leaders_is_slow(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=replace(FAST, slow_sync_seconds=0.2)) as cluster:
        leader = await cluster.leader()
        leader.log.delay_seconds = 0.25

        async def writes() -> None:
            while True:
                await cluster.put("a", "1")

        writing = cluster.spawn(writes())
        others = [node for node in cluster.nodes if node is not leader]
        await until(lambda: any(node.host.leads(GROUP) for node in others), "a node with a faster disk to lead")
        assert leader.host.disk().slow
        taker = await cluster.leader(other_than=leader)
        applied = taker.host.status(GROUP).applied
        await until(lambda: taker.host.status(GROUP).applied > applied + 50, "more to be written")
        assert not leader.host.leads(GROUP)
        writing.cancel()
