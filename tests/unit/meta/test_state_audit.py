"""Replicas that differ are found, judged and mended, on real hosts and databases in one process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId
from dwd.meta.audit import Audit
from dwd.meta.core.agreement import Evidence
from dwd.meta.core.shard.commands import PutObject
from dwd.meta.core.shard.queries import HeadObject
from dwd.meta.workers.checkpoint import CheckpointWorker
from dwd.meta.workers.scan import ScanWorker
from dwd.raft.core.types import Role
from dwd.runtime.worker import Progress
from tests.twins.meta_group import SHARD
from tests.twins.meta_nodes import CLOCK, Node, running, soon, until


class Auditor:
    """What audits a node, worked by hand."""

    def __init__(self, node: Node, all_of_them: dict[NodeId, Auditor]) -> None:
        self.node = node
        self.audit = Audit(node.host)
        self.rescans = 0
        self._all = all_of_them
        self.scan = ScanWorker(host=node.host, audit=self.audit)
        self.checkpoint = CheckpointWorker(
            node=node.id, host=node.host, client=node.client, audit=self.audit, audits=self, clock=CLOCK,
            rescan=self._rescan,
        )  # fmt: skip

    async def testify(
        self, node: NodeId, group: GroupId, replica: ReplicaId, index: LogIndex, *, seconds: float
    ) -> Evidence:
        return await self._all[node].audit.testify(group, replica, index)

    async def quarantine(
        self, node: NodeId, group: GroupId, replica: ReplicaId, reason: str, *, seconds: float
    ) -> None:
        await self._all[node].audit.quarantine(group, replica, reason)

    async def suspect(self, node: NodeId, group: GroupId, replica: ReplicaId, reason: str, *, seconds: float) -> None:
        self._all[node].audit.suspect(group, replica, reason)

    def _rescan(self) -> None:
        self.rescans += 1

    async def scan_all(self) -> None:
        while await self.scan.work() is not Progress.IDLE:
            pass


@asynccontextmanager
async def audited(root: Path, count: int) -> AsyncIterator[dict[NodeId, Auditor]]:
    """Nodes with a few objects, all of them applied everywhere."""
    async with running(root, count) as nodes:
        auditors: dict[NodeId, Auditor] = {}
        for node in nodes.values():
            auditors[node.id] = Auditor(node, auditors)
        client = nodes[NodeId(1)].client
        for number in range(8):
            await put(client, f"k{number}")
        await level(auditors)
        yield auditors


async def put(client: object, key: str) -> None:
    command = PutObject(bucket="b", key=key, bucket_epoch=1, size=1, etag="e", inline=b"x")
    await client.keyed(command, deadline=soon())  # type: ignore[attr-defined]


async def level(auditors: dict[NodeId, Auditor]) -> None:
    def applied() -> set[int]:
        return {a.node.host.status(SHARD).applied for a in auditors.values()}

    await until(lambda: len(applied()) == 1)


def leader_of(auditors: dict[NodeId, Auditor]) -> Auditor:
    return next(a for a in auditors.values() if a.node.host.status(SHARD).role is Role.LEADER)


def follower_of(auditors: dict[NodeId, Auditor]) -> Auditor:
    return next(a for a in auditors.values() if a.node.host.status(SHARD).role is not Role.LEADER)


async def rot(auditor: Auditor) -> None:
    """A row changes behind the back of the machine."""
    path = auditor.node.databases.readers(SHARD)._live().path
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    connection.execute("UPDATE objects SET etag = 'rot' WHERE key = x'6b33'")
    connection.close()


async def etag(auditor: Auditor) -> str:
    index = await auditor.node.host.read_index(SHARD, deadline=soon())
    found = await auditor.node.databases.readers(SHARD).answer(HeadObject(bucket="b", key="k3"), index_min=index)
    assert found.object is not None
    return found.object.etag


async def settle(auditors: dict[NodeId, Auditor]) -> None:
    """What the workers do within a few seconds."""
    limit = soon()
    for turn in itertools.count():
        for auditor in auditors.values():
            await auditor.checkpoint.work()
        if turn >= 4 and not any(w.open for a in auditors.values() for w in a.checkpoint._watched.values()):
            break
        assert CLOCK.monotonic() < limit, "a checkpoint is never judged"
        await asyncio.sleep(0.01)
    await until(lambda: all(a.node.host.status(SHARD).quarantined is None for a in auditors.values()))


async def test_all_record_the_same_when_nothing_is_wrong(tmp_path: Path) -> None:
    async with audited(tmp_path, 3) as auditors:
        leader = leader_of(auditors)
        leader.audit.suspect(SHARD, ReplicaId(1), "for the sake of it")
        await leader.checkpoint.work()
        await level(auditors)
        recorded = {a.node.host.status(SHARD).state_hash for a in auditors.values()}
        assert len(recorded) == 1
        assert None not in recorded
        for auditor in auditors.values():
            await auditor.scan_all()
            assert auditor.audit.rot_of(SHARD) is None
        await settle(auditors)
        assert not any(a.rescans for a in auditors.values())


async def test_follower_gets_the_leaders_state_when_a_row_of_it_rots(tmp_path: Path) -> None:
    async with audited(tmp_path, 3) as auditors:
        wrong = follower_of(auditors)
        replica = wrong.node.host.status(SHARD).replica
        await rot(wrong)
        assert await etag(wrong) == "rot"
        await wrong.scan_all()
        assert wrong.audit.rot_of(SHARD)
        await settle(auditors)
        assert await etag(wrong) == "e"
        assert wrong.node.host.status(SHARD).replica == replica
        await settle(auditors)
        assert wrong.rescans == 1
        await wrong.scan_all()
        assert wrong.audit.rot_of(SHARD) is None


async def test_leader_hands_over_and_gets_the_others_state_when_a_row_of_it_rots(tmp_path: Path) -> None:
    async with audited(tmp_path, 3) as auditors:
        wrong = leader_of(auditors)
        await rot(wrong)
        await wrong.scan_all()
        await settle(auditors)
        assert wrong.node.host.status(SHARD).role is not Role.LEADER
        assert await etag(wrong) == "e"
        await put(wrong.node.client, "after")


async def test_minority_is_found_at_the_checkpoint_when_its_rows_went_astray(tmp_path: Path) -> None:
    async with audited(tmp_path, 3) as auditors:
        wrong = follower_of(auditors)
        await rot(wrong)
        await put(wrong.node.client, "k3")  # the sum loses a row that never was in it
        await level(auditors)
        leader_of(auditors).audit.suspect(SHARD, ReplicaId(1), "an operator's feeling")
        await settle(auditors)
        assert wrong.node.databases.readers(SHARD)._live().number == 2, "it was given another state"
        leader = leader_of(auditors)
        leader.audit.suspect(SHARD, ReplicaId(1), "again")
        await leader.checkpoint.work()
        await level(auditors)
        assert len({a.node.host.status(SHARD).state_hash for a in auditors.values()}) == 1


async def test_alarm_is_raised_and_nothing_touched_when_two_replicas_differ(tmp_path: Path) -> None:
    async with audited(tmp_path, 2) as auditors:
        wrong = follower_of(auditors)
        await rot(wrong)
        await wrong.scan_all()
        for _ in range(4):
            for auditor in auditors.values():
                await auditor.checkpoint.work()
        alarm = leader_of(auditors).node.host.status(SHARD).alarm
        assert alarm is not None
        assert "no majority" in alarm
        assert all(a.node.host.status(SHARD).quarantined is None for a in auditors.values())
        assert await etag(wrong) == "rot"
        await put(wrong.node.client, "still served")
