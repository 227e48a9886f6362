"""What a layout would be made of if things were otherwise, and what speaks against a change."""

from __future__ import annotations

import pytest

from dwd.base.errors import AlreadyExists, InvalidArgument, NotFound
from dwd.base.ids import DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core import risk
from dwd.blocks.core.layout import LayoutDevice
from dwd.blocks.core.members import AddedNode, WhatIf
from dwd.blocks.core.movement import Load, Movement
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.core.profiles import parse_profile


def members(count: int, zones: int = 1) -> list[LayoutDevice]:
    return [
        LayoutDevice(device=DeviceId(n), node=NodeId(n), weight=10 * n, zone=f"z{n % zones}" if zones > 1 else "")
        for n in range(1, count + 1)
    ]


def test_nodes_are_added_with_the_usual_weight_and_ids_that_stay_the_same() -> None:
    added = AddedNode(name="n9", zone="z", rack="r", devices=2)
    made = WhatIf(added=(added,)).of(members(3))[3:]
    assert [(d.node, d.weight, d.zone, d.rack) for d in made] == [(added.node, 20, "z", "r")] * 2
    assert made == WhatIf(added=(added,)).of(members(3))[3:]
    assert len({d.device for d in made}) == 2


def test_nodes_and_devices_go_and_weights_change() -> None:
    what = WhatIf(
        removed_nodes=frozenset({NodeId(1)}), removed_devices=frozenset({DeviceId(2)}),
        weights={DeviceId(3): 7, DeviceId(4): 0},
    )  # fmt: skip
    assert [(d.device, d.weight) for d in what.of(members(5))] == [(3, 7), (5, 50)]
    assert not WhatIf()


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (WhatIf(removed_devices=frozenset({DeviceId(9)})), NotFound),
        (WhatIf(weights={DeviceId(9): 1}), NotFound),
        (WhatIf(weights={DeviceId(1): -1}), InvalidArgument),
        (WhatIf(added=(AddedNode(name=""),)), InvalidArgument),
        (WhatIf(added=(AddedNode(name="a", devices=0),)), InvalidArgument),
        (WhatIf(added=(AddedNode(name="a"), AddedNode(name="a"))), AlreadyExists),
    ],
)
def test_what_makes_no_sense_is_refused(what: WhatIf, error: type[Exception]) -> None:
    with pytest.raises(error):
        what.of(members(3))


def change(before: list[LayoutDevice], after: list[LayoutDevice], profile: str) -> Movement:
    old = plan_layout(before, epoch=LayoutEpoch(1), partitions=32)
    new = plan_layout(after, epoch=LayoutEpoch(2), previous=old, partitions=32)
    return Movement(old, new, [Load(profile=parse_profile(profile), data_bytes=1)])


def equal(count: int, zones: int = 1) -> list[LayoutDevice]:
    return [
        LayoutDevice(device=DeviceId(n), node=NodeId(n), weight=10, zone=f"z{n % zones}") for n in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    ("before", "after", "profile", "levels"),
    [
        (6, 5, "rs-4-2", ["nodes", "devices"]),
        (7, 6, "rs-4-2", []),
        (4, 3, "replica-3", []),
        (3, 2, "replica-3", ["nodes", "devices"]),
        (2, 1, "none", []),
    ],
)
def test_a_change_is_refused_when_it_takes_away_what_is_promised(
    before: int, after: int, profile: str, levels: list[str]
) -> None:
    reasons = risk.refusals(change(equal(before), equal(after), profile))
    assert [next(level for level in ("nodes", "devices") if level in reason) for reason in reasons] == levels
    assert all(profile in reason for reason in reasons)


def test_zones_that_are_survived_less_are_told_and_refused_nowhere() -> None:
    before = equal(9, zones=3)
    moved = change(before, [device for device in before if device.zone != "z2"], "rs-4-2")
    assert risk.refusals(moved) == ()
    assert any("losses of zones survived fall from 1 to 0" in text for text in risk.warnings(moved))
    assert not any("racks" in text for text in risk.warnings(moved)), "racks say no more than zones here"


def test_a_first_layout_warns_when_devices_are_too_few() -> None:
    first = plan_layout(equal(3), epoch=LayoutEpoch(1), partitions=32)
    load = [Load(profile=parse_profile("rs-4-2"), data_bytes=0)]
    assert len(risk.warnings(Movement(None, first, load))) == 1
    assert risk.refusals(Movement(None, first, load)) == ()
