"""Groups put together from what every node says of its replicas, over real calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.admin.rpc import raft_status
from dwd.base.errors import Corrupt, NotFound
from dwd.base.ids import GroupId, LogIndex, NodeId, hex_id
from dwd.raft.clock_guard import ClockStatus
from dwd.raft.core.types import Configuration, Member, MemberRole, Role
from dwd.raft.disk_pace import DiskStatus
from dwd.raft.ports import StateHash
from dwd.raft.status import MemberStatus, SnapshotProgress
from dwd.raft.transport import Absence
from tests.unit.admin.conftest import AdminCluster

CONFIGURATION = Configuration(
    members=tuple(Member(node=NodeId(n), replica=100 + n, role=MemberRole(n == 4)) for n in (1, 2, 3, 4))  # type: ignore[arg-type]
)


class Host:
    """`statuses` by group; `absent` members are known to be missing."""

    def __init__(self, statuses: Mapping[int, Any], absent: Mapping[int, Absence] | None = None) -> None:
        self.statuses = {GroupId(group): status for group, status in statuses.items()}
        self.absent = absent or {}
        self.clock_status = ClockStatus(offset_seconds=None, off=False, known=1, voters=3)
        self.disk_status = DiskStatus(sync_seconds=None, slow=False)

    def clock(self) -> ClockStatus:
        return self.clock_status

    def disk(self) -> DiskStatus:
        return self.disk_status

    def groups(self) -> tuple[GroupId, ...]:
        return tuple(self.statuses)

    def status(self, group: GroupId) -> Any:
        return self.statuses[group]

    def missing(self, group: GroupId) -> Mapping[int, Absence]:
        return self.absent if self.statuses[group].role is Role.LEADER else {}


def status(number: int, *, leader: int = 1, **changed: Any) -> Any:
    leads = number == leader
    members = tuple(
        MemberStatus(
            member=member, match=90 if leads and member.node == 3 else 100, state="replicate" if leads else "",
            caught_up=False, last_contact_seconds=0.5,
        )
        for member in CONFIGURATION.members
    )  # fmt: skip
    facts = {
        "group": 1, "replica": 100 + number, "role": Role.LEADER if leads else Role.FOLLOWER, "leader": 100 + leader,
        "leader_node": leader, "term": 7, "commit": 99, "applied": 98, "last": 100, "first": 5, "log_bytes": 4_096,
        "configuration": CONFIGURATION, "members": members, "snapshot": None, "tail_doubt": False, "failed": None,
        "quarantined": None, "alarm": None, "hibernating": False, "version": 1, "state_hash": None,
        **changed,
    }  # fmt: skip
    return SimpleNamespace(**{"quarantined": None, "alarm": None, "state_hash": None, "version": 1, **facts})


async def asked(admins: AdminCluster, *groups: int) -> Any:
    context = admins.nodes[1].context
    return await raft_status.raft_status(context, frozenset(GroupId(g) for g in groups), local=False)


@pytest.fixture
async def four(admins: AdminCluster) -> AdminCluster:
    """n1 leads group 1, n3 lags by 10, n4 listens."""
    for number in (1, 2, 3, 4):
        (await admins.add(number)).context.host = Host({1: status(number)})
    return admins


async def test_group_is_told_as_its_leader_sees_it_beside_what_each_member_says(four: AdminCluster) -> None:
    four.nodes[2].context.host = Host({1: status(2, applied=42, log_bytes=77)})
    (group,) = (await asked(four, 1)).groups
    assert (group.kind, group.leader, group.term, group.commit_index, group.last_index) == (
        "shard",
        hex_id(1),
        7,
        99,
        100,
    )
    told = {m.node: m for m in group.members}
    assert [told[hex_id(n)].state for n in (1, 2, 3, 4)] == ["leader", "replicate", "replicate", "replicate"]
    assert [told[hex_id(n)].lag_entries for n in (1, 2, 3)] == [0, 0, 10]
    assert (told[hex_id(2)].own.applied_index, told[hex_id(2)].own.log_bytes) == (42, 77)
    assert told[hex_id(4)].role == "learner"


async def test_all_groups_are_told_when_none_is_named_also_those_nobody_holds(four: AdminCluster) -> None:
    found = await asked(four)
    assert [(g.group, g.kind, bool(g.leader)) for g in found.groups] == [
        (0, "control", False), (1, "shard", True), (2, "shard", False)
    ]  # fmt: skip


async def test_unknown_group_is_not_found(four: AdminCluster) -> None:
    with pytest.raises(NotFound):
        await asked(four, 99)


async def test_clock_and_disk_of_each_node_are_told_when_it_answers(four: AdminCluster) -> None:
    host = four.nodes[2].context.host
    host.clock_status = ClockStatus(offset_seconds=-0.75, off=True, known=3, voters=3)
    host.disk_status = DiskStatus(sync_seconds=0.2, slow=True)
    nodes = (await asked(four)).nodes
    assert [(n.id, n.state, n.clock_off, n.disk_slow) for n in nodes] == [
        (hex_id(n), "up", n == 2, n == 2) for n in (1, 2, 3, 4)
    ]
    assert (nodes[1].clock_offset_seconds, nodes[1].sync_seconds) == (-0.75, 0.2)


async def test_group_is_hibernating_when_its_leader_rests(four: AdminCluster) -> None:
    assert not (await asked(four, 1)).groups[0].hibernating
    four.nodes[1].context.host = Host({1: status(1, hibernating=True)})
    (group,) = (await asked(four, 1)).groups
    assert group.hibernating


async def test_member_is_unreachable_when_its_node_does_not_answer(four: AdminCluster) -> None:
    await four.servers[1].stop(0)
    found = await asked(four, 1)
    assert [n.state for n in found.nodes] == ["up", "unreachable", "up", "up"]
    (member,) = (m for m in found.groups[0].members if m.node == hex_id(2))
    assert (member.state, member.HasField("own")) == ("unreachable", False)


async def test_member_is_unreachable_when_its_node_does_not_answer_for_the_snapshot_that_it_needs(
    four: AdminCluster,
) -> None:
    members = tuple(replace(member, state="snapshot") for member in status(1).members)
    four.nodes[1].context.host = Host({1: status(1, members=members)})
    await four.servers[1].stop(0)
    states = {m.node: m.state for m in (await asked(four, 1)).groups[0].members}
    assert (states[hex_id(2)], states[hex_id(3)]) == ("unreachable", "snapshot")


async def test_failed_and_missing_replicas_are_named_so(four: AdminCluster) -> None:
    four.nodes[1].context.host = Host({1: status(1)}, {NodeId(3): Absence.UNKNOWN})
    four.nodes[2].context.host = Host({1: status(2, failed=Corrupt("t.c", "rotten"))})
    four.nodes[3].context.host = Host({})
    states = {m.node: m.state for m in (await asked(four, 1)).groups[0].members}
    assert (states[hex_id(2)], states[hex_id(3)]) == ("failed", "missing")


async def test_group_without_leader_is_told_by_the_log_that_reaches_furthest(four: AdminCluster) -> None:
    for number in (1, 2, 3, 4):
        four.nodes[number].context.host = Host({1: status(number, leader=0, last=100 + number, leader_node=0)})
    (group,) = (await asked(four, 1)).groups
    assert (group.leader, group.last_index) == ("", 104)
    assert {m.state for m in group.members} == {"follower"}


async def test_snapshot_on_its_way_is_told_with_its_progress(four: AdminCluster) -> None:
    moving = SnapshotProgress(source=NodeId(1), bytes_done=30, bytes_total=120)
    four.nodes[3].context.host = Host({1: status(3, snapshot=moving)})
    (group,) = (await asked(four, 1)).groups
    (shown,) = (m.own.snapshot for m in group.members if m.own.HasField("snapshot"))
    assert (shown.source, shown.bytes_done, shown.bytes_total) == (hex_id(1), 30, 120)


async def test_quarantine_alarm_and_state_hash_are_told_by_the_replicas_node(four: AdminCluster) -> None:
    recorded = StateHash(index=LogIndex(70), definition=1, digest=b"\xab" * 32)
    four.nodes[2].context.host = Host({1: status(2, quarantined="a row is not what was written", state_hash=recorded)})
    four.nodes[1].context.host = Host({1: status(1, alarm="two differ")})
    (group,) = (await asked(four, 1)).groups
    told = {m.node: m for m in group.members}
    assert told[hex_id(2)].state == "quarantined"
    assert told[hex_id(2)].own.quarantined == "a row is not what was written"
    assert (told[hex_id(2)].own.state_hash, told[hex_id(2)].own.state_hash_index) == ("ab" * 32, 70)
    assert told[hex_id(1)].own.alarm == "two differ"


async def test_version_is_that_of_the_leader_and_of_the_furthest_when_a_witness_leads(four: AdminCluster) -> None:
    four.nodes[1].context.host = Host({1: status(1, version=3)})
    (group,) = (await asked(four, 1)).groups
    assert group.version == 3
    assert sorted(m.own.version for m in group.members) == [1, 1, 1, 3]
    four.nodes[1].context.host = Host({1: status(1, version=0)})
    assert (await asked(four, 1)).groups[0].version == 1
