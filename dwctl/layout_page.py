"""A layout and a plan as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dwd.pb.admin.v1 import layout_pb2

from dwctl.tables import Column, Table, table
from dwctl.text import when
from dwd.base.units import format_bytes

LEVELS = ("zones", "racks", "nodes", "devices")
_STEP = "· "


def head(view: layout_pb2.LayoutView) -> Iterator[str]:
    """What holds for the whole layout."""
    if not view.epoch:
        yield "no layout yet: no device has been added"
        return
    yield (
        f"layout {view.epoch}: {view.partitions} partitions, lists of {view.width} devices, "
        f"{format_bytes(view.bytes)}; slots of {view.profile} ({view.fragments} fragments)"
    )
    if view.automatic:
        yield "follows the members by itself (`dwctl layout auto off` leaves it to operators)"
    else:
        yield "changes when an operator applies one (`dwctl layout auto on` lets it follow the members)"
    for epoch in view.epochs[1:]:
        if not epoch.retired:
            yield f"layout {epoch.epoch} {_use(epoch)}"
    if view.HasField("staged"):
        yield f"staged: layout {view.staged.epoch}, plan {view.staged.hash[:16]} (`dwctl layout apply`)"


def devices(view: layout_pb2.LayoutView, *, tree: bool) -> Table:
    """One row a device; as a tree with the sums of zones, racks and nodes where that says more."""
    columns = (
        *((Column(name="where"),) if tree else ("zone", "rack", "node")),
        Column(name="device", is_id=True),
        Column(name="weight", rank=2, is_number=True),
        Column(name="share", is_number=True),
        Column(name="wanted", rank=3, is_number=True),
        Column(name="slots", rank=1, is_number=True),
        Column(name="off", is_number=True),
        Column(name="state", is_state=True),
    )
    rows = (
        list(_tree(view)) if tree else [(d.zone, d.rack, d.node_name, *_numbers([d], d.device)) for d in view.devices]
    )
    return table("devices", columns, rows)


def epochs(view: layout_pb2.LayoutView) -> Table:
    columns = (
        Column(name="epoch", is_number=True),
        "applied",
        Column(name="devices", is_number=True),
        Column(name="blocks", is_number=True),
        Column(name="state", is_state=True),
    )
    rows = [
        (str(e.epoch), when(e.applied_unix_ms), str(e.devices), str(e.blocks), _epoch_state(view, e))
        for e in view.epochs
    ]
    return table("layouts", columns, rows)


def plan_head(plan: layout_pb2.LayoutPlan) -> Iterator[str]:
    if not plan.changes:
        yield f"layout {plan.from_epoch} is what the members give: nothing to change"
        return
    kind = "what-if" if plan.what_if else "plan"
    yield f"{kind}: layout {plan.epoch}" + (f" after {plan.from_epoch}" if plan.from_epoch else ", the first")
    share = 100 * plan.moved_bytes / plan.stored_bytes if plan.stored_bytes else 0.0
    yield (
        f"moves {format_bytes(plan.moved_bytes)} of {format_bytes(plan.stored_bytes)} ({share:.1f} %), "
        f"{plan.moved_slots} slots; the least possible is {format_bytes(plan.least_bytes)}"
    )


def plan_tail(plan: layout_pb2.LayoutPlan) -> Iterator[str]:
    for text in plan.warnings:
        yield f"note: {text}"
    for text in plan.refusals:
        yield f"refused without --force: {text}"
    if plan.hash and not plan.applied:
        yield f"staged as {plan.hash[:16]}: `dwctl layout apply --plan {plan.hash[:16]}`"


def movements(plan: layout_pb2.LayoutPlan) -> Table:
    columns = (
        "node",
        Column(name="device", is_id=True),
        Column(name="zone", rank=3),
        Column(name="weight", rank=2, is_number=True),
        Column(name="slots", rank=1, is_number=True),
        Column(name="in", is_number=True),
        Column(name="out", is_number=True),
    )
    rows = [
        (
            d.node_name or d.node[:8],
            d.device,
            d.zone,
            _change(d.weight_before, d.weight_after),
            _change(d.slots_before, d.slots_after),
            format_bytes(d.bytes_in),
            format_bytes(d.bytes_out),
        )
        for d in sorted(plan.devices, key=lambda d: (d.zone, d.node_name, d.device))
    ]
    return table("devices", columns, rows)


def survivals(plan: layout_pb2.LayoutPlan) -> Table:
    """One row a profile and level: how many losses are survived before, during and after."""
    columns = (
        "profile",
        Column(name="promised", is_number=True),
        "losses of",
        Column(name="before", is_number=True),
        Column(name="during", is_number=True),
        Column(name="after", is_number=True),
    )
    rows = []
    for found in plan.survivals:
        for level in LEVELS:
            if level == "racks" and _like_zones(found):
                continue
            first = not found.HasField("before")
            times = (
                "-" if first else str(getattr(found.before, level)),
                "-" if first else str(getattr(found.during, level)),
            )
            rows.append((found.profile, str(found.promised), level, *times, str(getattr(found.after, level))))
    return table("profiles", columns, rows)


def _tree(view: layout_pb2.LayoutView) -> Iterator[tuple[str, ...]]:
    has_zones, has_racks = any(d.zone for d in view.devices), any(d.rack for d in view.devices)
    for zone, in_zone in groupby(view.devices, key=lambda d: d.zone):
        below, members = "", list(in_zone)
        if has_zones:
            yield (f"zone {zone or '-'}", *_numbers(members))
            below = _STEP
        for rack, in_rack in groupby(members, key=lambda d: d.rack):
            inside, shelf = below, list(in_rack)
            if has_racks:
                yield (f"{below}rack {rack or '-'}", *_numbers(shelf))
                inside += _STEP
            yield from _nodes(shelf, inside)


def _nodes(devices: Iterable[layout_pb2.LayoutDeviceView], below: str) -> Iterator[tuple[str, ...]]:
    for _, found in groupby(devices, key=lambda d: d.node):
        own = list(found)
        name = own[0].node_name or own[0].node[:8]
        if len(own) == 1:
            yield (below + name, *_numbers(own, own[0].device))
            continue
        yield (below + name, *_numbers(own))
        for device in own:
            yield (below + _STEP, *_numbers([device], device.device))


def _numbers(devices: list[layout_pb2.LayoutDeviceView], device: str = "") -> tuple[str, ...]:
    share, wanted = sum(d.share_percent for d in devices), sum(d.wanted_percent for d in devices)
    off = f"{100 * (share / wanted - 1):+.1f} %" if wanted else "-"
    state = devices[0].state if device else ""
    weight, slots = sum(d.weight for d in devices), sum(d.slots for d in devices)
    return device, str(weight), f"{share:.2f} %", f"{wanted:.2f} %", str(slots), off, state


def _use(epoch: layout_pb2.LayoutEpochView) -> str:
    """What keeps an older layout from being retired."""
    if epoch.blocks:
        return f"is still in use: {'' if epoch.counted else 'at least '}{epoch.blocks} blocks lie by it"
    return "is retired soon: no block lies by it" if epoch.counted else "may be in use: not every shard answered"


def _epoch_state(view: layout_pb2.LayoutView, epoch: layout_pb2.LayoutEpochView) -> str:
    if epoch.epoch == view.epoch:
        return "active"
    if epoch.retired:
        return "retired"
    return "unused" if epoch.counted and not epoch.blocks else "in use"


def _change(before: int, after: int) -> str:
    return str(after) if before == after else f"{before} -> {after}"


def _like_zones(found: layout_pb2.LayoutSurvival) -> bool:
    """Racks say no more than zones do."""
    return all(losses.racks == losses.zones for losses in (found.before, found.during, found.after))
