"""What the block store sees of control's devices."""

from __future__ import annotations

from typing import Any

import pytest

from dwd.base.ids import DeviceId
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.meta.core.control.rows import DeviceState, Domain, Liveness, NodeStanding
from dwd.node.topology import ControlTopology
from tests.unit.node.rows import device_row, node_row, topology

UP, DOWN, LOST = DeviceHealth.UP, DeviceHealth.DOWN, DeviceHealth.LOST


def view_of(
    liveness: Liveness = Liveness.UP, standing: NodeStanding = NodeStanding.ACTIVE, **changes: Any
) -> DeviceView:
    class View:
        def topology(self) -> Any:
            node = node_row(1, liveness=liveness, standing=standing, domain=Domain(zone="z1", rack="r1"))
            return topology(node, devices=(device_row(1, **changes),))

    view: Any = View()
    return ControlTopology(node_row(1).node, view).devices()[DeviceId(1)]


@pytest.mark.parametrize(
    ("changes", "health", "writable", "placed"),
    [
        ({}, UP, True, True),
        ({"state": DeviceState.FAILED}, DOWN, True, True),
        ({"state": DeviceState.DRAINING, "draining": True}, UP, False, False),
        ({"state": DeviceState.FAILED, "draining": True}, DOWN, False, False),
        ({"state": DeviceState.READ_ONLY}, UP, False, False),
        ({"weight": 0}, UP, True, False),
        ({"state": DeviceState.LOST}, LOST, True, False),
        ({"state": DeviceState.RETIRED}, LOST, True, False),
        ({"liveness": Liveness.DOWN}, DOWN, True, True),
        ({"standing": NodeStanding.DRAINING}, UP, False, False),
        ({"liveness": Liveness.DOWN, "state": DeviceState.READ_ONLY}, DOWN, False, False),
    ],
)
def test_a_device_is_read_written_and_placed_when_its_state_allows(
    changes: dict[str, Any], health: DeviceHealth, writable: bool, placed: bool
) -> None:
    view = view_of(**changes)
    assert (view.health, view.writable, view.placed) == (health, writable, placed)


def test_a_device_lies_where_its_node_does_unless_it_says_otherwise() -> None:
    assert (view_of().zone, view_of().rack) == ("z1", "r1")
    assert (view_of(zone="z9", rack="r9").zone, view_of(zone="z9", rack="r9").rack) == ("z9", "r9")
