"""The cluster as the block store sees it, over this node's copy of control. Layouts are decoded once an epoch."""

from __future__ import annotations

from collections.abc import Mapping

from dwd.base.errors import Unavailable
from dwd.base.ids import DeviceId, LayoutEpoch, NodeId, stamp_ms
from dwd.blocks.core.layout import Layout, decode_layout
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import DeviceRow, DeviceState, Liveness, NodeStanding
from dwd.meta.view import ControlView


class ControlTopology:
    """Implements `dwd.blocks.topology.Topology`; rebuilt when control's snapshot object changes."""

    def __init__(self, node: NodeId, view: ControlView) -> None:
        self._node = node
        self._view = view
        self._seen: Topology | None = None
        self._devices: dict[DeviceId, DeviceView] = {}
        self._layouts: dict[LayoutEpoch, Layout] = {}
        self._newest: Layout | None = None

    @property
    def local_node(self) -> NodeId:
        return self._node

    def devices(self) -> Mapping[DeviceId, DeviceView]:
        self._refresh()
        return self._devices

    def layout(self) -> Layout:
        """Raises Unavailable blocks.no_layout."""
        self._refresh()
        if self._newest is None:
            raise Unavailable("blocks.no_layout", "no device has been added to the cluster yet", hint="try again soon")
        return self._newest

    def layout_of(self, epoch: LayoutEpoch) -> Layout | None:
        self._refresh()
        return self._layouts.get(epoch)

    def _refresh(self) -> None:
        now = self._view.topology()
        if now is self._seen:
            return
        kept = self._layouts
        self._layouts = {row.epoch: kept.get(row.epoch) or decode_layout(row.layout) for row in now.layouts}
        self._newest = self._layouts[now.layout.epoch] if now.layout is not None else None
        self._devices = {row.device: _view(now, row) for row in now.devices}
        self._seen = now


def _view(topology: Topology, row: DeviceRow) -> DeviceView:
    node = topology.node(row.node)
    down_since = 0
    if row.state in {DeviceState.LOST, DeviceState.RETIRED} or node is None:
        health = DeviceHealth.LOST
        down_since = stamp_ms(row.state_since)
    elif row.state is DeviceState.FAILED:
        health, down_since = DeviceHealth.DOWN, stamp_ms(row.state_since)
    elif node.liveness is Liveness.DOWN:
        health, down_since = DeviceHealth.DOWN, stamp_ms(node.liveness_since)
    else:
        health = DeviceHealth.UP
    return DeviceView(
        device=row.device,
        node=row.node,
        zone=row.zone or (node.domain.zone if node is not None else ""),
        rack=row.rack or (node.domain.rack if node is not None else ""),
        weight=row.weight,
        health=health,
        down_since_ms=down_since,
        changed_ms=stamp_ms(max(row.state_since, node.liveness_since if node is not None else row.state_since)),
        writable=(
            not row.draining
            and row.state is not DeviceState.READ_ONLY
            and (node is None or node.standing is NodeStanding.ACTIVE)
        ),
    )
