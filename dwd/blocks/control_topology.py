"""The cluster as the block store sees it, read from this node's copy of control."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from dwd.base.errors import Unavailable
from dwd.base.ids import DeviceId, LayoutEpoch, NodeId, stamp_ms
from dwd.blocks.core.layout import Layout, decode_layout
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.meta.core.control.queries import Topology as ControlTopologyRows
from dwd.meta.core.control.rows import DeviceRow, DeviceState, Liveness, NodeRow
from dwd.meta.view import ControlView

LAYOUTS_DECODED_MAX = 16


class ControlTopology:
    """`Topology` over a `ControlView`. Owned by one event loop.

    `reachable(node)` is what this node sees itself, faster than control's transitions: False makes a node's devices
    DOWN here at once. `local_failed(device)`: devices of this node taken out of service, before control knows.
    """

    def __init__(
        self,
        view: ControlView,
        local_node: NodeId,
        *,
        reachable: Callable[[NodeId], bool] = lambda _: True,
        local_failed: Callable[[DeviceId], bool] = lambda _: False,
    ) -> None:
        self._view, self._local_node = view, local_node
        self._reachable, self._local_failed = reachable, local_failed
        self._rows: ControlTopologyRows | None = None
        self._unreachable: frozenset[NodeId] = frozenset()
        self._devices: dict[DeviceId, DeviceView] = {}
        self._layouts: OrderedDict[LayoutEpoch, Layout] = OrderedDict()

    @property
    def local_node(self) -> NodeId:
        return self._local_node

    def devices(self) -> Mapping[DeviceId, DeviceView]:
        rows = self._view.topology()
        unreachable = frozenset(
            n.node for n in rows.nodes if n.node != self._local_node and not self._reachable(n.node)
        )
        if rows is not self._rows or unreachable != self._unreachable:
            self._rows, self._unreachable = rows, unreachable
            nodes = {row.node: row for row in rows.nodes}
            self._devices = {row.device: self._device(row, nodes.get(row.node)) for row in rows.devices}
        return self._devices

    def layout(self) -> Layout:
        row = self._view.topology().layout
        if row is None:
            raise Unavailable("blocks.no_layout", "the cluster has no layout yet")
        return self._decoded(row.epoch, row.layout)

    def layout_of(self, epoch: LayoutEpoch) -> Layout | None:
        known = self._layouts.get(epoch)
        if known is not None:
            return known
        row = self._view.topology().layout_of(epoch)
        return None if row is None else self._decoded(epoch, row.layout)

    def _decoded(self, epoch: LayoutEpoch, raw: bytes) -> Layout:
        layout = self._layouts.get(epoch)
        if layout is None:
            layout = self._layouts[epoch] = decode_layout(raw)
            if len(self._layouts) > LAYOUTS_DECODED_MAX:
                self._layouts.popitem(last=False)
        return layout

    def _device(self, row: DeviceRow, node: NodeRow | None) -> DeviceView:
        health, since = self._health(row, node)
        return DeviceView(
            device=row.device,
            node=row.node,
            zone=node.domain.zone if node is not None else "",
            rack=row.rack or (node.domain.rack if node is not None else ""),
            weight=row.weight,
            health=health,
            down_since_ms=since,
        )

    def _health(self, row: DeviceRow, node: NodeRow | None) -> tuple[DeviceHealth, int]:
        if node is None or row.state in {DeviceState.LOST, DeviceState.RETIRED}:
            return DeviceHealth.LOST, stamp_ms(row.state_since)
        if row.state is DeviceState.FAILED:
            return DeviceHealth.DOWN, stamp_ms(row.state_since)
        if node.liveness is Liveness.DOWN and row.node != self._local_node:
            return DeviceHealth.DOWN, stamp_ms(node.liveness_since)
        if row.node in self._unreachable or self._local_failed(row.device):
            return DeviceHealth.DOWN, _NOT_LONG
        return DeviceHealth.UP, 0


_NOT_LONG = 1 << 62
"""As `down_since_ms` of what only this node finds down: never counts as dead before control agrees."""
