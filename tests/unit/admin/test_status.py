"""What the cluster's health is called, and what an operator is told about it."""

from __future__ import annotations

from typing import Any

import pytest

from dwd.admin.rpc import status
from dwd.pb.admin.v1 import admin_pb2 as pb


def reply(**changes: Any) -> pb.ClusterStatusReply:
    """Of a cluster with nothing wrong."""
    made = pb.ClusterStatusReply(layout_epoch=changes.get("layout_epoch", 1))
    made.nodes.add(name="n1", id="01", state="up")
    clock = changes.get("clock", 0.0)
    made.nodes.add(
        name="n2", id="02", state=changes.get("node", "up"), clock_offset_seconds=clock, clock_off=abs(clock) > 0.5
    )
    sync = changes.get("sync", 0.0)
    made.nodes.add(name="n3", id="03", state="up", sync_seconds=sync, disk_slow=sync > 0)
    for group in (0, 1):
        info = made.groups.add(group=group, kind=status.kind_of(group), leader=changes.get("leader", "01"))
        info.members.add(node="01", state="leader", leader=True)
        info.members.add(node="02", state=changes.get("member", "replicate"))
    made.devices.add(id="d1", state=changes.get("device", "active"), reason="smoke" if "device" in changes else "")
    made.redundancy.blocks_degraded = changes.get("degraded", 0)
    status._judge(made)
    return made


@pytest.mark.parametrize(
    ("changes", "health", "reasons", "redundant"),
    [
        ({}, "healthy", [], True),
        ({"node": "unreachable"}, "degraded", ["node n2 is unreachable"], True),
        (
            {"clock": -86400.04},
            "degraded",
            ["node n2: its clock is 86400.0 s behind that of the others; it leads no group"],
            True,
        ),
        ({"clock": 0.3}, "healthy", [], True),
        (
            {"sync": 0.25},
            "healthy",
            ["node n3: its log disk is slow (p99 250 ms); it gives away what it leads"],
            True,
        ),
        ({"device": "failed"}, "degraded", ["device d1 is failed: smoke"], True),
        ({"device": "lost"}, "healthy", [], True),
        ({"device": "retired"}, "healthy", [], True),
        ({"degraded": 3}, "degraded", ["3 blocks are not fully redundant"], False),
        ({"layout_epoch": 0}, "unavailable", ["no layout: no device has been added"], False),
        ({"member": "snapshot"}, "healthy", [], True),
    ],
)
def test_health_is_named_with_its_reasons(
    changes: dict[str, Any], health: str, reasons: list[str], *, redundant: bool
) -> None:
    made = reply(**changes)
    assert (made.health, list(made.reasons), made.redundancy.fully_redundant) == (health, reasons, redundant)


def test_cluster_is_unavailable_when_a_group_has_no_leader() -> None:
    made = reply(leader="")
    assert made.health == "unavailable"
    assert list(made.reasons) == ["group 0 (control) has no leader", "group 1 (shard) has no leader"]


@pytest.mark.parametrize("state", ["missing", "failed"])
def test_lost_replica_is_named_by_group_and_node(state: str) -> None:
    assert f"group 1: the replica on node 02 is {state}" in reply(member=state).reasons


def view(group: int, term: int, *, leads: bool, applied: int = 0) -> pb.NodeStatusReply:
    made = pb.NodeStatusReply()
    info = made.groups.add(group=group, term=term, leader="01" if leads else "", applied_index=applied)
    info.members.add(node="01", state="leader" if leads else "unknown")
    return made


def test_group_is_shown_as_its_leader_of_the_highest_term_sees_it() -> None:
    made = pb.ClusterStatusReply()
    views = [
        view(0, 3, leads=True),
        view(0, 5, leads=True),
        view(0, 9, leads=False),
        view(1, 2, leads=False, applied=4),
    ]
    status._add_groups(made, (0, 1, 2), views)  # type: ignore[arg-type]
    assert [(g.group, g.term, g.kind) for g in made.groups] == [(0, 5, ""), (1, 2, ""), (2, 0, "shard")]
