"""The groups as people and pipes see them: few whole, many as a list, troubles first."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from dwctl import raft_page
from dwd.pb.admin.v1 import consensus_pb2 as pb
from tests.unit.dwctl.conftest import Node, Ran

Dwctl = Callable[..., Ran]


def member(number: int, **facts: Any) -> pb.RaftMember:
    own = pb.RaftReplica(applied_index=40, first_index=3, last_index=41, log_bytes=2048, term=5, state_hash="ab" * 16)
    known: dict[str, Any] = {"state": "replicate", "match_index": 41, "role": "voter", "own": own, **facts}
    return pb.RaftMember(node=f"id{number}", replica=f"{number:016x}", **known)


def group(number: int, *members: pb.RaftMember, **facts: Any) -> pb.RaftGroup:
    known: dict[str, Any] = {"kind": "shard", "leader": "id1", "term": 5, "commit_index": 41, **facts}
    found = members or (member(1, state="leader"), member(2), member(3))
    return pb.RaftGroup(group=number, members=found, **known)


def status(*groups: pb.RaftGroup) -> pb.RaftStatusReply:
    nodes = [pb.RaftNode(id=f"id{n}", name=f"n{n}", state="up") for n in (1, 2, 3)]
    return pb.RaftStatusReply(nodes=nodes, groups=groups)


def drawn(found: pb.RaftStatusReply, *, width: int = 120, height: int | None = None) -> list[str]:
    sink = io.StringIO()
    Console(file=sink, width=width, highlight=False).print(raft_page.for_people(found, width=width, height=height))
    return sink.getvalue().splitlines()


def test_two_groups_are_shown_whole_with_every_member() -> None:
    lines = drawn(status(group(0, kind="control"), group(1)))
    assert lines[0] == "2 groups, 2 with a leader"
    heads = [line for line in lines if line.startswith("group ")]
    assert heads[0].startswith("group 0 control  led by n1  term 5  commit 41")
    assert sum(line.strip().startswith("n2 ") for line in lines) == 2


def test_two_hundred_groups_take_a_line_each_and_only_those_in_trouble_a_block() -> None:
    found = status(*(group(n) for n in range(200)))
    found.groups[150].leader = ""
    lines = drawn(found)
    assert len(lines) < 225
    assert [line for line in lines if line.startswith("group ") and "no leader" in line]
    assert "  - group 150 (shard) has no leader" in lines


@pytest.mark.parametrize("count", [2, 6, 30, 200])
@pytest.mark.parametrize("height", [24, 50])
def test_page_fits_when_the_height_is_bounded(count: int, height: int) -> None:
    found = status(*(group(n, leader="" if n % 3 == 0 else "id1") for n in range(count)))
    assert len(drawn(found, width=100, height=height)) <= height


def test_snapshot_on_its_way_has_a_bar() -> None:
    moving = pb.SnapshotTransfer(source="id1", bytes_done=30 << 20, bytes_total=40 << 20, bytes_reused=10 << 20)
    behind = member(3, state="snapshot")
    behind.own.snapshot.CopyFrom(moving)
    (bar,) = (line for line in drawn(status(group(1, member(1, state="leader"), behind))) if "snapshot n1" in line)
    assert "n1 → n3" in bar
    assert "75 % of 40 MiB, 10 MiB were there" in bar
    assert bar.count("█") == 15


def test_node_says_why_it_leads_nothing_when_its_clock_or_disk_is_at_fault() -> None:
    found = status(group(1, hibernating=True))
    found.nodes[0].clock_off, found.nodes[0].clock_offset_seconds = True, -1.5
    found.nodes[1].disk_slow, found.nodes[1].sync_seconds = True, 0.2
    assert raft_page.reasons(found) == [
        "node n1: its clock is 1.5 s behind that of the others; it leads no group",
        "node n2: its log disk is slow (p99 200 ms); it gives away what it leads",
    ]
    assert drawn(found)[0] == "1 group, 1 with a leader, 1 asleep"
    (nodes,) = (t for t in raft_page.tables(found) if t.title == "nodes")
    assert [row[2:] for row in nodes.rows] == [("-1500 ms off", "-"), ("+0 ms", "200.0 ms slow"), ("+0 ms", "-")]


def test_troubles_are_told_in_words() -> None:
    members = (
        member(1, state="leader"),
        member(2, state="quarantined", own=pb.RaftReplica(quarantined="its rows differ")),
        member(3, state="failed", own=pb.RaftReplica(failed="rotten (x.y)")),
    )
    assert raft_page.reasons(status(group(1, *members))) == [
        "group 1: the replica on n2 is quarantined: its rows differ",
        "group 1: the replica on n3 is failed: rotten (x.y)",
    ]


def test_node_that_is_down_is_told_once_when_it_has_replicas_of_many_groups() -> None:
    found = status(*(group(n, member(1, state="leader"), member(2, state="unreachable")) for n in range(20)))
    found.nodes[1].state = "down"
    assert raft_page.reasons(found) == ["node n2 is down"]


def test_joint_hibernating_and_pinned_groups_are_counted_and_marked() -> None:
    found = status(group(1, member(1, outgoing=True), joint=True, membership="pinned"), group(2, hibernating=True))
    assert raft_page.title(found) == (
        "2 groups, 2 with a leader, 1 between two configurations, 1 asleep, 1 pinned by an operator"
    )
    text = "\n".join(drawn(found))
    assert "voter, outgoing" in text
    assert "members pinned  joint" in text


def test_status_is_plain_columns_when_piped_and_whole_as_json(dwctl: Dwctl, node: Node) -> None:
    node.answers["RaftStatus"] = status(group(1))
    lines = dwctl("raft", "status", "1").out.splitlines()
    assert lines[0] == "1 group, 1 with a leader"
    assert lines[2].split("\t")[:4] == ["group", "kind", "leader", "term"]
    assert lines[3].split("\t")[:4] == ["1", "shard", "n1", "5"]
    assert [request.groups for _, request in node.asked] == [[1]]
    document = dwctl("raft", "status", "--json").document
    assert document["groups"][0]["members"][0]["own"]["applied_index"] == 40
    node.answers["RaftStatus"] = status(group(1, pb.RaftMember(node="id1", state="unreachable")))
    assert dwctl("raft", "status", "--json").document["groups"][0]["members"][0]["own"] is None


def test_log_is_told_by_where_it_begins_when_it_is_empty(dwctl: Dwctl, node: Node) -> None:
    cut = member(2, own=pb.RaftReplica(first_index=22, last_index=21))
    node.answers["RaftStatus"] = status(group(1, member(1, state="leader"), cut))
    lines = dwctl("raft", "member", "list", "1").out.splitlines()
    column = lines[0].split("\t").index("first-last")
    assert [line.split("\t")[column] for line in lines[1:]] == ["3-41", "22-"]


@pytest.mark.parametrize(("asked", "code"), [("a1", 0), ("b2", 8)])
def test_dry_run_of_a_recovery_shows_the_plan_of_now_and_fails_when_it_is_another(
    dwctl: Dwctl, node: Node, asked: str, code: int
) -> None:
    node.answers["PlanRecovery"] = pb.RecoveryPlan(hash="a1")
    ran = dwctl("cluster", "recover", "apply", "--hash", asked, "--dry-run")
    assert (ran.code, ran.out.splitlines()[-1]) == (code, "plan a1")
    assert [method for method, _ in node.asked] == ["PlanRecovery"]


def test_epoch_is_told_by_its_count_and_chance() -> None:
    assert raft_page.epoch_name(0) == "0"
    assert raft_page.epoch_name((2 << 32) | 0xAB) == "2.000000ab"


@pytest.mark.parametrize("number", ["-1", str(1 << 64)])
@pytest.mark.parametrize("verb", [("status",), ("member", "list"), ("compact",)])
def test_number_that_no_group_can_have_is_wrong_usage(
    dwctl: Dwctl, node: Node, verb: tuple[str, ...], number: str
) -> None:
    ran = dwctl("raft", *verb, "--", number)
    assert (ran.code, node.asked) == (2, [])
    assert "Traceback" not in ran.err


def test_active_version_is_shown_when_the_group_tells_it() -> None:
    lines = drawn(status(group(0, version=3), group(1)))
    heads = [line for line in lines if line.startswith("group ")]
    assert "version 3" in heads[0]
    assert "version" not in heads[1]
    listed = raft_page.tables(status(group(0, version=3), group(1)))[0]
    at = [column.name for column in listed.columns].index("version")
    assert [row[at] for row in listed.rows] == ["3", "-"]
