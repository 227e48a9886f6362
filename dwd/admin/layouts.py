"""What operators do with layouts: look at them, plan, apply what was shown, go back.

A plan is made from this node's copy of control and staged there; applying compares epoch and hash, so what takes effect
is what was shown, and nothing that changed meanwhile is overwritten. A what-if is never staged.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from dwd.admin.context import AdminContext
from dwd.base.errors import Conflict, NotFound, SafetyRefused, Unavailable
from dwd.base.ids import LayoutEpoch
from dwd.base.policy import Policy
from dwd.blocks.core import risk
from dwd.blocks.core.layout import Layout, LayoutDevice, decode_layout, encode_layout
from dwd.blocks.core.members import AddedNode, WhatIf
from dwd.blocks.core.movement import Load, Movement
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.core.profiles import Profile
from dwd.blocks.layouts import AUTOMATIC_SETTING, DEFAULT_PROFILE_SETTING, is_automatic, widths_in_use
from dwd.blocks.policies import choice_on
from dwd.blocks.stored import stored_by_profile
from dwd.blocks.topology import layout_devices
from dwd.meta.core.control.commands import ApplyLayout, DropStagedLayout, SetSetting, StageLayout
from dwd.meta.core.control.queries import GetTopology, Topology
from dwd.meta.core.control.rows import LayoutRow

_log = structlog.get_logger("dwd.admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """`digest` is of the encoded layout; `changes`: it differs from the one in force."""

    before: Layout | None
    after: Layout
    movement: Movement
    changes: bool
    what_if: bool
    digest: bytes
    warnings: tuple[str, ...]
    refusals: tuple[str, ...]
    data_bytes: Mapping[Profile, int]
    added: tuple[AddedNode, ...] = ()


async def plan(context: AdminContext, what_if: WhatIf) -> Planned:
    """Of the present members, staged where it changes anything; or what the what-if would give, which is not.
    Raises NotFound, InvalidArgument, Unavailable, Conflict, Busy.
    """
    before = _newest_of(await _topology(context))
    wanted = what_if.of(layout_devices(list(context.topology.devices().values())))
    if not wanted:
        raise NotFound("layout.no_devices", "no device is there that takes data", hint="`dwctl device list` shows them")
    epoch = LayoutEpoch(before.epoch + 1 if before is not None else 1)
    after = await asyncio.to_thread(
        plan_layout, wanted, epoch=epoch, previous=before, held_for=widths_in_use(context.meta.view, before)
    )
    if what_if:
        return replace(await _judged(context, before, after, what_if=True), added=what_if.added)
    return await _staged(context, before, after)


async def revert(context: AdminContext, epoch: LayoutEpoch) -> Planned:
    """The placement of an older layout (0: the one before the newest) under a new epoch, staged. Raises NotFound,
    SafetyRefused when devices of it are gone.
    """
    topology = await _topology(context)
    before, rows = _newest_of(topology), topology.layouts[:-1]
    row = rows[-1] if rows and not epoch else next((row for row in rows if row.epoch == epoch), None)
    if row is None or before is None:
        raise NotFound(
            "layout.no_such_epoch",
            "there is no older layout to go back to" if not epoch else f"layout {epoch} is not known any more",
            hint="`dwctl layout show` lists those that are kept",
        )
    older = decode_layout(row.layout)
    present = set(layout_devices(list(context.topology.devices().values())))
    _require_there(older.devices, {device.device for device in present})
    if is_automatic(topology) and set(older.devices) != present:
        raise SafetyRefused(
            "layout.automatic_on",
            "layouts follow the members by themselves: the cluster would leave that layout at once",
            hint="`dwctl layout auto off` first",
        )
    return await _staged(context, before, replace(older, epoch=LayoutEpoch(before.epoch + 1)))


async def apply(context: AdminContext, digest: bytes, *, force: bool) -> Planned:
    """What is staged, if it is what was shown (empty: whatever it is). Raises NotFound, Conflict, SafetyRefused."""
    topology = await _topology(context)
    staged = topology.staged_layout
    if staged is None and not digest:
        raise NotFound("layout.nothing_staged", "no layout is staged", hint="`dwctl layout plan` stages one")
    if staged is None or (digest and digest_of(staged.layout) != digest):
        raise Conflict(
            "layout.changed", "what is staged is not what was shown", hint="look at it anew: `dwctl layout plan`"
        )
    before, after = _newest_of(topology), decode_layout(staged.layout)
    known = {device.device for device in context.topology.devices().values() if device.placed}
    if {device.device for device in after.devices} - known:
        raise Conflict("layout.members_changed", "devices of the plan are gone since", hint="`dwctl layout plan` anew")
    found = await _judged(context, before, after, what_if=False)
    if found.refusals and not force:
        raise SafetyRefused(
            "layout.less_survived", "; ".join(found.refusals), hint="add devices first, or override with --force"
        )
    command = ApplyLayout(epoch=after.epoch, layout=b"", staged_hash=found.digest)
    await context.meta.control(command, deadline=context.deadline())
    _log.info("layout applied by an operator", epoch=after.epoch, moved_bytes=found.movement.moved_bytes, force=force)
    return found


async def drop(context: AdminContext) -> bool:
    """Whether something was staged."""
    return (await context.meta.control(DropStagedLayout(), deadline=context.deadline())).existed


async def set_automatic(context: AdminContext, *, automatic: bool) -> None:
    command = SetSetting(name=AUTOMATIC_SETTING, value="" if automatic else "off")
    await context.meta.control(command, deadline=context.deadline())


def newest(context: AdminContext) -> Layout | None:
    """None before the first."""
    try:
        return context.topology.layout()
    except Unavailable:
        return None


def shown_profile(context: AdminContext, name: str, layout: Layout) -> Profile:
    """Over whose fragments slots are counted: the named one, else what buckets get that name none."""
    topology = context.meta.view.topology()
    return choice_on(Policy(profile=name or topology.setting(DEFAULT_PROFILE_SETTING)), layout, topology).profile


async def blocks_by_epoch(context: AdminContext) -> tuple[dict[LayoutEpoch, int], bool]:
    """Blocks, live or waiting for collection, that name each layout; and whether every shard answered."""
    used: dict[LayoutEpoch, int] = {}
    complete = True
    for group in context.meta.shards():
        try:
            counts = await context.meta.counts(group, deadline=context.deadline())
        except Unavailable:
            complete = False
            continue
        for use in counts.epochs:
            used[use.epoch] = used.get(use.epoch, 0) + use.blocks
    return used, complete


def digest_of(encoded: bytes) -> bytes:
    """By which a staged layout is named."""
    return hashlib.sha256(encoded).digest()


def rows(context: AdminContext) -> tuple[LayoutRow, ...]:
    return context.meta.view.topology().layouts


async def _topology(context: AdminContext) -> Topology:
    """As of now: what this very operator has just staged by way of another node must be in it."""
    return await context.meta.read(GetTopology(), deadline=context.deadline())


def _newest_of(topology: Topology) -> Layout | None:
    return decode_layout(topology.layout.layout) if topology.layout is not None else None


async def _staged(context: AdminContext, before: Layout | None, after: Layout) -> Planned:
    found = await _judged(context, before, after, what_if=False)
    if found.changes:
        command = StageLayout(epoch=after.epoch, layout=encode_layout(after))
        await context.meta.control(command, deadline=context.deadline())
    return found


async def _judged(context: AdminContext, before: Layout | None, after: Layout, *, what_if: bool) -> Planned:
    stored = await stored_by_profile(context.meta, before or after, deadline=context.deadline())
    default = shown_profile(context, "", before or after)
    loads = [Load(profile=profile, data_bytes=size) for profile, size in stored.items()]
    if default not in stored:
        loads.append(Load(profile=default, data_bytes=0))
    movement = Movement(before, after, loads)
    warnings, refusals = await asyncio.to_thread(_speaks_against, movement)
    return Planned(
        before=before,
        after=after,
        movement=movement,
        changes=before is None or (before.devices, before.slots) != (after.devices, after.slots),
        what_if=what_if,
        digest=digest_of(encode_layout(after)),
        warnings=warnings + _still_moving(context),
        refusals=refusals,
        data_bytes=stored,
    )


def _speaks_against(movement: Movement) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Off the event loop: everything that the answer shows is computed here."""
    _ = movement.devices, movement.least_bytes, movement.moved_bytes
    return risk.warnings(movement), risk.refusals(movement)


def _still_moving(context: AdminContext) -> tuple[str, ...]:
    older = [row.epoch for row in rows(context)[:-1] if not row.retired]
    if not older:
        return ()
    return (f"data still moves from layouts {', '.join(map(str, older))}: bytes are counted from the newest",)


def _require_there(devices: tuple[LayoutDevice, ...], present: set[int]) -> None:
    gone = [device.device for device in devices if device.device not in present]
    if gone:
        raise SafetyRefused(
            "layout.devices_gone",
            f"{len(gone)} of its devices take no data any more: {', '.join(f'{device:016x}' for device in gone[:4])}",
            hint="`dwctl layout plan` makes a new one of the devices that are there",
        )
