"""Messages that are not believed: dropped, counted, and spoken of once a minute."""

from __future__ import annotations

from pathlib import Path

import structlog

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term
from dwd.raft.complaints import LOG_SECONDS, Complaints
from dwd.raft.core.messages import AppendReply, Heartbeat
from tests.twins.manual_clock import ManualClock
from tests.twins.raft_cluster import GROUP, TestCluster, until


def test_a_refusal_is_logged_once_a_minute_when_it_happens_all_the_time() -> None:
    clock = ManualClock()
    complaints = Complaints(clock)
    with structlog.testing.capture_logs() as logs:
        for _ in range(1000):
            complaints.note("stale", group=GroupId(1), source=ReplicaId(2), node=NodeId(3))
        clock.advance(LOG_SECONDS)
        complaints.note("stale", group=GroupId(1), source=ReplicaId(2), node=NodeId(3))
    assert [line["count"] for line in logs] == [1, 1000]


async def test_nobody_speaks_for_a_member_when_it_is_not_its_node(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        term = leader.host.status(GROUP).term
        one, two = await cluster.followers()
        heartbeat = Heartbeat(
            source=ReplicaId(100 + two.id), target=ReplicaId(100 + leader.id), term=Term(term + 5), commit=LogIndex(0),
            round=1,
        )  # fmt: skip
        with structlog.testing.capture_logs() as logs:
            one.transport.send(leader.id, GROUP, [heartbeat])
            await until(lambda: any(line["event"] == "messages were refused" for line in logs), "the complaint")
        assert leader.host.status(GROUP).term == term


async def test_the_group_lives_on_when_a_member_sends_nonsense(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        one, _ = await cluster.followers()
        source, target = ReplicaId(100 + one.id), ReplicaId(100 + leader.id)
        absurd = AppendReply(
            source=source, target=target, term=Term(2**61), accepted=True, match=LogIndex(2**62),
            hint_index=LogIndex(0), hint_term=Term(0),
        )  # fmt: skip
        one.transport.send(leader.id, GROUP, [absurd])
        await cluster.put("b", "1")
        assert leader.host.status(GROUP).failed is None
