"""What a layout would be made of if things were otherwise: nodes added, nodes and devices gone, other weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from dwd.base.errors import AlreadyExists, InvalidArgument, NotFound
from dwd.base.ids import ID_BITS, DeviceId, NodeId, hex_id
from dwd.blocks.core.layout import LayoutDevice

DEVICES_ADDED_MAX = 65_535
WEIGHT_MAX = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedNode:
    """A node that is not there. `weight` of each device; 0: the median of those that are there."""

    name: str
    zone: str = ""
    rack: str = ""
    weight: int = 0
    devices: int = 1

    @property
    def node(self) -> NodeId:
        return NodeId(_imagined("node", self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    added: tuple[AddedNode, ...] = ()
    removed_nodes: frozenset[NodeId] = frozenset()
    removed_devices: frozenset[DeviceId] = frozenset()
    weights: Mapping[DeviceId, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed_nodes or self.removed_devices or self.weights)

    def of(self, members: Sequence[LayoutDevice]) -> list[LayoutDevice]:
        """Raises NotFound for a device that is no member, InvalidArgument, AlreadyExists."""
        known = {device.device for device in members}
        for device in (*self.removed_devices, *self.weights):
            if device not in known:
                raise NotFound("layout.no_such_device", f"device {hex_id(device)} is in no layout of these members")
        if any(not 0 <= weight <= WEIGHT_MAX for weight in self.weights.values()):
            raise InvalidArgument("layout.bad_weight", f"a weight goes from 0 to {WEIGHT_MAX}")
        staying = [
            replace(device, weight=self.weights.get(device.device, device.weight))
            for device in members
            if device.node not in self.removed_nodes and device.device not in self.removed_devices
        ]
        usual = round(median(device.weight for device in members)) if members else 1
        for added in self.added:
            staying += _devices_of(added, usual)
        if len({device.device for device in staying}) != len(staying):
            raise AlreadyExists("layout.node_twice", "a node is added twice")
        return [device for device in staying if device.weight > 0]


def _devices_of(added: AddedNode, usual: int) -> list[LayoutDevice]:
    if not added.name or not 0 < added.devices <= DEVICES_ADDED_MAX or not 0 <= added.weight <= WEIGHT_MAX:
        raise InvalidArgument("layout.bad_node", "a node to be added has a name, devices and a weight in bounds")
    return [
        LayoutDevice(
            device=DeviceId(_imagined("device", f"{added.name}/{number}")),
            node=added.node,
            weight=added.weight or usual,
            zone=added.zone,
            rack=added.rack,
        )
        for number in range(added.devices)
    ]


def _imagined(kind: str, name: str) -> int:
    """An id for what has none yet: the same whenever it is asked for."""
    return int.from_bytes(hashlib.sha256(f"{kind} {name}".encode()).digest()) % (1 << ID_BITS) or 1
