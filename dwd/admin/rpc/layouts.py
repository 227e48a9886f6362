"""The Layouts service: messages in, messages out; the verbs themselves stand in `dwd.admin.layouts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc

from dwd.admin import layouts
from dwd.admin.context import AdminContext
from dwd.admin.rpc.leaders import node_named
from dwd.base.errors import InvalidArgument
from dwd.base.ids import DeviceId, LayoutEpoch, NodeId, hex_id, parse_hex_id, stamp_ms
from dwd.blocks.core.layout import Layout, LayoutDevice
from dwd.blocks.core.members import AddedNode, WhatIf
from dwd.blocks.core.movement import Losses, Survival
from dwd.blocks.layouts import is_automatic
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.pb.admin.v1 import layout_pb2 as pb
from dwd.pb.admin.v1 import layout_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class LayoutsServicer(layout_pb2_grpc.LayoutsServicer):
    """One a node."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def register(self, server: grpc.aio.Server) -> None:
        """Serve this from `server`, which has not started yet."""
        layout_pb2_grpc.add_LayoutsServicer_to_server(self, server)

    async def ShowLayout(self, request: pb.ShowLayoutRequest, context: Context) -> pb.LayoutView:
        return await _view(self._context, request.profile)

    async def PlanLayout(self, request: pb.PlanLayoutRequest, context: Context) -> pb.LayoutPlan:
        if request.revert:
            planned = await layouts.revert(self._context, LayoutEpoch(request.revert_epoch))
        else:
            planned = await layouts.plan(self._context, _what_if(self._context, request))
        return _plan(self._context, planned)

    async def ApplyLayout(self, request: pb.ApplyLayoutRequest, context: Context) -> pb.LayoutPlan:
        try:
            digest = bytes.fromhex(request.hash)
        except ValueError:
            raise InvalidArgument("layout.bad_hash", "a plan's hash is hex digits") from None
        made = _plan(self._context, await layouts.apply(self._context, digest, force=request.force))
        made.applied = True
        return made

    async def DropStagedLayout(self, request: pb.DropStagedLayoutRequest, context: Context) -> pb.DropStagedLayoutReply:
        return pb.DropStagedLayoutReply(existed=await layouts.drop(self._context))

    async def SetLayoutAutomatic(
        self, request: pb.SetLayoutAutomaticRequest, context: Context
    ) -> pb.SetLayoutAutomaticReply:
        await layouts.set_automatic(self._context, automatic=request.automatic)
        return pb.SetLayoutAutomaticReply(automatic=request.automatic)


def _what_if(context: AdminContext, request: pb.PlanLayoutRequest) -> WhatIf:
    return WhatIf(
        added=tuple(
            AddedNode(name=n.name, zone=n.zone, rack=n.rack, weight=n.weight, devices=n.devices or 1)
            for n in request.add_nodes
        ),
        removed_nodes=frozenset(node_named(context, name) for name in request.remove_nodes),
        removed_devices=frozenset(DeviceId(parse_hex_id(text)) for text in request.remove_devices),
        weights={DeviceId(parse_hex_id(w.device)): w.weight for w in request.weights},
    )


async def _view(context: AdminContext, profile_name: str) -> pb.LayoutView:
    topology, layout = context.meta.view.topology(), layouts.newest(context)
    view = pb.LayoutView(automatic=is_automatic(topology))
    if topology.staged_layout is not None:
        staged = topology.staged_layout
        view.staged.epoch, view.staged.staged_unix_ms = staged.epoch, stamp_ms(staged.staged)
        view.staged.hash = layouts.digest_of(staged.layout).hex()
    if layout is None:
        return view
    profile = layouts.shown_profile(context, profile_name, layout)
    view.epoch, view.partitions, view.width = layout.epoch, layout.partitions, layout.width
    view.profile, view.fragments = profile.scheme, profile.fragments
    view.bytes = len(topology.layouts[-1].layout)
    _add_devices(view, context, layout)
    used, complete = await layouts.blocks_by_epoch(context)
    for row in reversed(topology.layouts):
        older = context.topology.layout_of(row.epoch)
        view.epochs.add(
            epoch=row.epoch,
            applied_unix_ms=stamp_ms(row.applied),
            blocks=used.get(row.epoch, 0),
            retired=row.retired,
            devices=len(older.devices) if older is not None else 0,
            counted=complete,
        )
    return view


def _add_devices(view: pb.LayoutView, context: AdminContext, layout: Layout) -> None:
    names = _names(context)
    placed = {device.device: device for device in layout.devices}
    held = layout.slots_held(view.fragments)
    slots, weight = sum(held.values()), sum(device.weight for device in layout.devices)
    known = context.topology.devices()
    everything = {**{device.device: device.placement() for device in known.values() if _shown(device)}, **placed}
    for found in sorted(everything.values(), key=lambda d: (d.zone, d.rack, names.get(d.node, ""), d.device)):
        mine = held.get(found.device, 0)
        share, wanted = (
            100 * mine / slots,
            100 * placed[found.device].weight / weight if found.device in placed else 0.0,
        )
        view.devices.add(
            device=hex_id(found.device),
            node=hex_id(found.node),
            node_name=names.get(found.node, ""),
            zone=found.zone,
            rack=found.rack,
            weight=placed[found.device].weight if found.device in placed else 0,
            slots=mine,
            share_percent=share,
            wanted_percent=wanted,
            off_percent=100 * (share / wanted - 1) if wanted else 0.0,
            state=_state(known.get(found.device), placed=found.device in placed),
        )


def _shown(device: DeviceView) -> bool:
    return device.health is not DeviceHealth.LOST


def _state(device: DeviceView | None, *, placed: bool) -> str:
    if device is None or device.health is DeviceHealth.LOST:
        return "lost"
    if device.placed:
        return device.health.value if placed else "waiting"
    if device.weight <= 0:
        return "empty"
    return "draining" if device.writable is False else device.health.value


def _plan(context: AdminContext, planned: layouts.Planned) -> pb.LayoutPlan:
    movement = planned.movement
    made = pb.LayoutPlan(
        epoch=planned.after.epoch,
        from_epoch=planned.before.epoch if planned.before is not None else 0,
        partitions=planned.after.partitions,
        changes=planned.changes,
        what_if=planned.what_if,
        hash="" if planned.what_if or not planned.changes else planned.digest.hex(),
        moved_bytes=movement.moved_bytes,
        least_bytes=movement.least_bytes,
        stored_bytes=movement.stored_bytes,
        moved_slots=movement.moved_slots,
        warnings=planned.warnings,
        refusals=planned.refusals,
    )
    names = _names(context) | {node.node: node.name for node in planned.added}
    before = _by_device(planned.before)
    after = _by_device(planned.after)
    for moved in movement.devices:
        device = after.get(moved.device) or before[moved.device]
        made.devices.add(
            device=hex_id(moved.device),
            node=hex_id(moved.node),
            node_name=names.get(moved.node, ""),
            zone=device.zone,
            weight_before=before[moved.device].weight if moved.device in before else 0,
            weight_after=after[moved.device].weight if moved.device in after else 0,
            slots_before=moved.slots_before,
            slots_after=moved.slots_after,
            bytes_in=moved.bytes_in,
            bytes_out=moved.bytes_out,
        )
    for survival in movement.survivals:
        made.survivals.append(_survival(survival, planned.data_bytes.get(survival.profile, 0)))
    return made


def _survival(survival: Survival, data_bytes: int) -> pb.LayoutSurvival:
    return pb.LayoutSurvival(
        profile=survival.profile.name,
        promised=survival.profile.parity,
        data_bytes=data_bytes,
        before=_losses(survival.before),
        during=_losses(survival.during),
        at_worst=_losses(survival.at_worst),
        after=_losses(survival.after),
    )


def _losses(losses: Losses | None) -> pb.LayoutLosses | None:
    if losses is None:
        return None
    return pb.LayoutLosses(zones=losses.zones, racks=losses.racks, nodes=losses.nodes, devices=losses.devices)


def _by_device(layout: Layout | None) -> Mapping[DeviceId, LayoutDevice]:
    return {device.device: device for device in layout.devices} if layout is not None else {}


def _names(context: AdminContext) -> dict[NodeId, str]:
    return {row.node: row.name for row in context.meta.view.topology().nodes}
