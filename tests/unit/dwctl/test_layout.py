"""dwctl layout: what is asked of a node, how answers look, which exit codes refusals have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dwctl.layout_page import devices as device_table
from dwd.base.errors import Conflict, SafetyRefused
from dwd.pb.admin.v1 import layout_pb2 as pb
from tests.unit.dwctl.conftest import Node, Ran

Dwctl = Callable[..., Ran]
HASH = "5f0c1d2e3b4a5968" * 4


def view(**changes: Any) -> pb.LayoutView:
    facts: dict[str, Any] = {
        "epoch": 4, "partitions": 1_024, "width": 3, "automatic": True, "profile": "replica-3", "fragments": 3,
        "bytes": 3_200,
    }  # fmt: skip
    made = pb.LayoutView(**{**facts, **changes})
    for number, zone in ((1, "a"), (2, "a"), (3, "b")):
        made.devices.add(
            device=f"{number:016x}", node=f"{number:016x}", node_name=f"n{number}", zone=zone, weight=10, slots=1_024,
            share_percent=100 / 3, wanted_percent=100 / 3, state="up",
        )  # fmt: skip
    made.epochs.add(epoch=4, blocks=10, devices=3, counted=True)
    made.epochs.add(epoch=3, blocks=2, devices=2, counted=True)
    return made


def plan(**changes: Any) -> pb.LayoutPlan:
    facts: dict[str, Any] = {
        "epoch": 5, "from_epoch": 4, "partitions": 1_024, "changes": True, "hash": HASH, "moved_bytes": 3 << 20,
        "least_bytes": 3 << 20, "stored_bytes": 30 << 20, "moved_slots": 100,
    }  # fmt: skip
    made = pb.LayoutPlan(**{**facts, **changes})
    made.devices.add(device=f"{7:016x}", node=f"{7:016x}", node_name="n7", slots_after=100, bytes_in=3 << 20)
    losses = pb.LayoutLosses(zones=1, racks=1, nodes=2, devices=2)
    made.survivals.add(profile="rs-4-2", promised=2, before=losses, during=losses, after=losses)
    return made


def test_show_tells_shares_and_the_layouts_still_in_use(dwctl: Dwctl, node: Node) -> None:
    node.answers["ShowLayout"] = view()
    shown = dwctl("layout", "show")
    assert shown.code == 0
    assert "layout 3 is still in use: 2 blocks lie by it" in shown.err
    assert "a\t\tn1\t0000000000000001\t10\t33.33 %\t33.33 %\t1024\t+0.0 %\tup" in shown.out.splitlines()
    assert dwctl("layout", "show", "--json").document["epochs"][1]["blocks"] == 2


@pytest.mark.parametrize(
    ("counted", "told"),
    [(True, "layout 3 is retired soon: no block lies by it"), (False, "layout 3 may be in use")],
)
def test_show_says_so_when_no_block_lies_by_an_older_layout(dwctl: Dwctl, node: Node, counted: bool, told: str) -> None:
    unused = view()
    unused.epochs[1].blocks, unused.epochs[1].counted = 0, counted
    node.answers["ShowLayout"] = unused
    assert told in dwctl("layout", "show").err


def test_tree_sums_zones_and_indents_what_lies_below() -> None:
    rows = [(row[0], row[4]) for row in device_table(view(), tree=True).rows]
    assert [name for name, _ in rows] == ["zone a", "· n1", "· n2", "zone b", "· n3"]
    assert rows[0] == ("zone a", "66.67 %") or rows[0][1] == "2048"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n7", {"name": "n7"}),
        ("n7@z", {"name": "n7", "zone": "z"}),
        ("n7@z/r:50", {"name": "n7", "zone": "z", "rack": "r", "weight": 50}),
        ("n7:50x4", {"name": "n7", "weight": 50, "devices": 4}),
    ],
)
def test_nodes_to_add_are_read(dwctl: Dwctl, node: Node, text: str, expected: dict[str, Any]) -> None:
    node.answers["PlanLayout"] = plan(what_if=True, hash="")
    assert dwctl("layout", "plan", "--add-node", text, "--weight", "ab=3", "--remove-node", "n2").code == 0
    (_, request) = node.asked[-1]
    assert list(request.add_nodes) == [pb.AddedNode(**expected)]
    assert (request.weights[0].device, request.weights[0].weight, request.remove_nodes) == ("ab", 3, ["n2"])


@pytest.mark.parametrize("arguments", [("--add-node", "@z"), ("--weight", "ab"), ("--weight", "=3")])
def test_malformed_what_ifs_are_usage_errors(dwctl: Dwctl, node: Node, arguments: tuple[str, ...]) -> None:
    assert dwctl("layout", "plan", *arguments).code == 2
    assert node.asked == []


def test_plan_tells_bytes_losses_and_how_to_apply(dwctl: Dwctl, node: Node) -> None:
    node.answers["PlanLayout"] = plan(warnings=["w"], refusals=["r"])
    shown = dwctl("layout", "plan")
    assert "moves 3 MiB of 30 MiB (10.0 %)" in shown.err
    assert f"dwctl layout apply --plan {HASH[:16]}" in shown.err
    assert "rs-4-2\t2\tnodes\t2\t2\t2" in shown.out
    assert "racks" not in shown.out, "they say no more than zones"
    node.answers["PlanLayout"] = plan(changes=False)
    assert "nothing to change" in dwctl("layout", "plan").err


def test_apply_takes_a_beginning_of_the_hash_and_refuses_another(dwctl: Dwctl, node: Node) -> None:
    staged = pb.StagedLayoutView(epoch=5, hash=HASH)
    node.answers |= {"ShowLayout": view(staged=staged), "ApplyLayout": plan(applied=True)}
    assert dwctl("layout", "apply", "--plan", HASH[:16]).code == 0
    assert node.asked[-1] == ("ApplyLayout", pb.ApplyLayoutRequest(hash=HASH))
    assert dwctl("layout", "apply", "--plan", "00000000").code == 8
    assert dwctl("layout", "apply", "--plan", HASH[:4]).code == 2
    node.answers["ApplyLayout"] = Conflict("layout.changed", "changed")
    assert dwctl("layout", "apply", "--yes").code == 8
    node.answers["ApplyLayout"] = SafetyRefused("layout.less_survived", "less")
    assert dwctl("layout", "apply", "--yes").code == 4


def test_revert_applies_what_it_showed(dwctl: Dwctl, node: Node) -> None:
    node.answers |= {"PlanLayout": plan(), "ApplyLayout": plan(applied=True)}
    assert dwctl("layout", "revert", "3", "--dry-run").code == 0
    assert [method for method, _ in node.asked] == ["PlanLayout"]
    assert dwctl("layout", "revert", "3", "--yes", "--force").code == 0
    assert node.asked[-2:] == [
        ("PlanLayout", pb.PlanLayoutRequest(revert=True, revert_epoch=3)),
        ("ApplyLayout", pb.ApplyLayoutRequest(hash=HASH, force=True)),
    ]


def test_auto_is_on_or_off(dwctl: Dwctl, node: Node) -> None:
    node.answers["SetLayoutAutomatic"] = pb.SetLayoutAutomaticReply(automatic=False)
    assert dwctl("layout", "auto", "off").code == 0
    assert node.asked[-1] == ("SetLayoutAutomatic", pb.SetLayoutAutomaticRequest(automatic=False))
    assert dwctl("layout", "auto", "maybe").code == 2
    node.answers["DropStagedLayout"] = pb.DropStagedLayoutReply(existed=True)
    assert dwctl("layout", "drop", "--json").document == {"existed": True}


@pytest.mark.parametrize("arguments", [("layout", "revert", "9" * 26), ("heal", "pace", "--objective", "9" * 26)])
def test_a_number_is_a_usage_error_when_no_message_could_carry_it(dwctl: Dwctl, arguments: tuple[str, ...]) -> None:
    assert dwctl(*arguments).code == 2
