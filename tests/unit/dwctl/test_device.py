"""dwctl device list: what nodes find wrong with each other's devices."""

from __future__ import annotations

from collections.abc import Callable

from dwd.pb.admin.v1 import devices_pb2
from tests.unit.dwctl.conftest import Node, Ran

Dwctl = Callable[..., Ran]


def test_a_device_names_who_avoids_it_and_why_when_breakers_are_open_or_it_is_slow(dwctl: Dwctl, node: Node) -> None:
    avoided = [
        devices_pb2.Avoidance(device="d1", node_name="n1", breaker="open"),
        devices_pb2.Avoidance(device="d1", node_name="n2", breaker="closed", sluggish=True),
        devices_pb2.Avoidance(device="d1", node_name="n3", breaker="half-open", sluggish=True),
    ]
    node.answers["ListDevices"] = devices_pb2.ListDevicesReply(
        devices=[
            devices_pb2.Device(id="d1", node_name="n4", state="active", avoided=avoided),
            devices_pb2.Device(id="d2", node_name="n5", state="active"),
        ]
    )
    rows = [line.split("\t") for line in dwctl("device", "list").out.splitlines()]
    column = next(at for at, head in enumerate(rows[0]) if head.lower().replace("_", " ") == "avoided by")
    assert rows[1][column] == "n1 (breaker open), n2 (slow), n3 (breaker half-open, slow)"
    assert rows[2][column] == "-"
