"""The cluster as the block store sees it: devices, who is up, and the layouts. Implemented over the node's copy of
control; an in-memory twin serves the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dwd.base.ids import DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core.layout import Layout, LayoutDevice


class DeviceHealth(Enum):
    UP = "up"
    """Takes reads and writes."""
    DOWN = "down"
    """Its node does not answer, or it failed; what it holds may come back."""
    LOST = "lost"
    """Given up, by an operator or after its grace: what it held is rebuilt elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device now. `down_since_ms`: Unix milliseconds, 0 while it is up. `changed_ms`: when it or its node last came
    or went.
    """

    device: DeviceId
    node: NodeId
    zone: str
    rack: str
    weight: int
    health: DeviceHealth
    down_since_ms: int = 0
    changed_ms: int = 0
    writable: bool = True
    """Takes new fragments while it is UP: it is neither draining nor read-only."""

    @property
    def placed(self) -> bool:
        """Stands in new layouts: writable, of some weight, and not given up. Down or failed alone changes nothing."""
        return self.writable and self.weight > 0 and self.health is not DeviceHealth.LOST

    def placement(self) -> LayoutDevice:
        return LayoutDevice(device=self.device, node=self.node, weight=self.weight, zone=self.zone, rack=self.rack)


class Topology(Protocol):
    """Cheap to ask, always answered from memory; may be a moment old."""

    @property
    def local_node(self) -> NodeId: ...

    def devices(self) -> Mapping[DeviceId, DeviceView]:
        """All devices that are or were members."""
        ...

    def layout(self) -> Layout:
        """The newest. Raises Unavailable blocks.no_layout before the cluster has devices."""
        ...

    def layout_of(self, epoch: LayoutEpoch) -> Layout | None:
        """An older one that some block may still name."""
        ...


def layout_devices(views: Sequence[DeviceView]) -> list[LayoutDevice]:
    """What a new layout is made of."""
    return [view.placement() for view in views if view.placed]
