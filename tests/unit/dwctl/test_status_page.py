"""The status as people read it on narrow, short and wide terminals, and through a pipe."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from dwctl.status_page import for_people
from dwctl.tables import Column, plain, shown, table
from dwd.pb.admin.v1 import admin_pb2 as pb
from tests.unit.dwctl.conftest import Node, Ran

IDS = [f"{number:016x}" for number in range(0xA0, 0xAC)]


def found(nodes: int = 12) -> pb.ClusterStatusReply:
    reply = pb.ClusterStatusReply(cluster_id="ab" * 16, cluster_name="lab", health="healthy")
    for number, identity in enumerate(IDS[:nodes], 1):
        reply.nodes.add(
            id=identity, name=f"n{number}", state="up", zone=f"z{number}", grpc=f"192.168.100.{number}:7400",
            s3=f"192.168.100.{number}:7480", memory_bytes=100 << 20,
        )  # fmt: skip
        reply.devices.add(id=IDS[-number], node=identity, state="active", used_bytes=1 << 30, free_bytes=1 << 40)
    group = reply.groups.add(group=0, kind="control", leader=IDS[0], term=3, applied_index=10)
    group.members.add(node=IDS[0], role="voter", state="leader", leader=True)
    group.members.add(node=IDS[1], role="learner", state="replicate")
    group.members.add(node=IDS[2], role="voter", state="probe")
    return reply


def page(reply: pb.ClusterStatusReply, width: int, height: int | None = None) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(for_people(reply, width=width, height=height))
    return captured.get()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_cell_is_cut_and_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = page(found(), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert "192.168.100.12:7480" in text


def test_less_important_columns_go_first_when_the_terminal_is_narrow() -> None:
    narrow, wide = page(found(), 60), page(found(), 200)
    assert "192.168.100.12:7400" not in narrow
    assert "192.168.100.12:7400" in wide
    for text in (narrow, wide):
        assert "n1, n3 (probe), n2 (learner)" in " ".join(text.split())


def test_ids_are_short_for_people_and_whole_in_pipes(dwctl: Callable[..., Ran], node: Node) -> None:
    assert IDS[0] not in page(found(), 200)
    assert IDS[0][:8] in page(found(), 200)
    node.answers["ClusterStatus"] = found()
    piped = dwctl("cluster", "status").out
    assert f"\t{IDS[0]}" in piped
    assert "lab is healthy" in piped
    assert "─" not in piped
    assert dwctl("cluster", "status", "--json").document["nodes"][0]["id"] == IDS[0]


@pytest.mark.parametrize("height", [40, 24, 18])
def test_live_page_fits_the_screen_and_keeps_nodes_and_head(height: int) -> None:
    text = page(found(6), 80, height)
    assert len(text.splitlines()) <= height
    assert "lab is healthy" in text
    assert "n6" in text
    if height < 24:
        assert "6 devices: 6 active, 6 GiB used" in text


def many(count: int = 40) -> pb.ClusterStatusReply:
    reply = found(3)
    for number in range(1, count):
        group = reply.groups.add(group=number, kind="shard", leader=IDS[0], term=3, hibernating=number > 10)
        group.members.add(node=IDS[0], role="voter", state="leader", leader=True)
    del reply.groups[0].members[2:]
    return reply


def test_groups_are_counted_when_there_are_many() -> None:
    text = page(many(), 120)
    assert "40 groups: 29 asleep, 11 working" in text
    assert "17 shard" not in text
    assert len(text.splitlines()) < 30


def test_groups_in_trouble_are_listed_when_there_are_many() -> None:
    reply = many()
    reply.groups[17].leader = ""
    reply.groups[18].quarantined = "its rows differ"
    reply.groups[19].members[0].state = "probe"
    text = page(reply, 120)
    assert "26 asleep, 11 working, 1 without a leader, 1 with a replica in quarantine" in text
    for number in range(1, 40):
        assert (f"\n{number} shard" in text) == (number in {17, 18, 19})


@pytest.mark.parametrize("height", [40, 24, 18])
def test_live_page_fits_the_screen_when_many_groups_are_in_trouble(height: int) -> None:
    reply = many(400)
    for group in reply.groups:
        group.leader = ""
    assert "388 more in trouble" in " ".join(page(reply, 120).split())
    text = page(reply, 120, height)
    assert len(text.splitlines()) <= height
    assert "400 without a leader" in text


def test_clock_and_disk_are_told_of_each_node_when_the_terminal_is_wide() -> None:
    reply = found(3)
    reply.nodes[0].clock_offset_seconds, reply.nodes[0].clock_off = 0.612, True
    reply.nodes[1].sync_seconds, reply.nodes[1].disk_slow = 0.25, True
    text = page(reply, 200)
    assert "+612 ms off" in text
    assert "250.0 ms slow" in text


def test_nodes_are_sorted_as_people_count() -> None:
    text = page(found(), 120)
    assert text.index("n2 ") < text.index("n10 ")


def test_group_without_a_leader_says_so() -> None:
    reply = found(3)
    reply.groups[0].leader = ""
    assert "none" in page(reply, 80)


def test_cells_are_one_line_each() -> None:
    made = table("t", ("a", "b"), [("one\ntwo", "x\ty")])
    assert list(plain(made)) == ["a\tb", "one two\tx y"]


def test_columns_that_must_stay_stay_however_narrow_it_is() -> None:
    columns = (Column(name="name"), Column(name="extra", rank=1), Column(name="more", rank=2), "why")
    made = table("t", columns, [("a" * 30, "b" * 30, "c" * 30, "d" * 30)])
    assert shown(made, 200) == (0, 1, 2, 3)
    assert shown(made, 80) == (0, 1, 3)
    assert shown(made, 10) == (0, 3)
