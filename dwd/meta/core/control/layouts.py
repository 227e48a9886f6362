"""StageLayout, DropStagedLayout, ApplyLayout, RetireLayouts."""

from __future__ import annotations

import hashlib
from typing import assert_never

from dwd.base.errors import Busy, Conflict, InvalidArgument
from dwd.base.ids import LayoutEpoch
from dwd.base.limits import COMMAND_BYTES_MAX, MESSAGE_BYTES_MAX
from dwd.base.units import KIB
from dwd.meta.core.control.commands import ApplyLayout, DropStagedLayout, RetireLayouts, StageLayout
from dwd.meta.core.control.state import Control, Part
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.tx import At

LAYOUTS_MAX = 64
"""Layouts that data may still lie by; a new one must wait until rebalancing has retired old ones."""
LAYOUT_BYTES_MAX = COMMAND_BYTES_MAX - 64 * KIB
"""Of one layout: it rides in a command."""
LAYOUTS_BYTES_MAX = MESSAGE_BYTES_MAX * 3 // 4
"""Of all together: they ride in one answer to whoever asks for the topology."""


LayoutCommand = StageLayout | DropStagedLayout | ApplyLayout | RetireLayouts


def apply(control: Control, command: LayoutCommand, at: At) -> Receipt:
    match command:
        case StageLayout():
            return stage_layout(control, command, at)
        case DropStagedLayout():
            return drop_staged_layout(control, at)
        case ApplyLayout():
            return apply_layout(control, command, at)
        case RetireLayouts():
            return retire_layouts(control, command, at)
        case _:
            assert_never(command)


def stage_layout(control: Control, command: StageLayout, at: At) -> Receipt:
    _check_size(command.layout)
    _check_epoch(control, command.epoch)
    control.tx.run(
        "INSERT OR REPLACE INTO staged_layout VALUES (1, ?, ?, ?)", (command.epoch, command.layout, at.stamp)
    )
    control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp)


def drop_staged_layout(control: Control, at: At) -> Receipt:
    existed = _drop_staged(control)
    if existed:
        control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=existed)


def apply_layout(control: Control, command: ApplyLayout, at: At) -> Receipt:
    layout = _staged(control, command) if command.staged_hash else command.layout
    _check_size(layout)
    _check_epoch(control, command.epoch)
    row = control.tx.row("SELECT count(*), coalesce(sum(length(layout)), 0) FROM layouts WHERE retired = 0")
    count, held = (0, 0) if row is None else row
    if count >= LAYOUTS_MAX or held + len(layout) > LAYOUTS_BYTES_MAX:
        raise Busy("meta.layouts", f"data lies by {count} layouts already; let rebalancing finish")
    control.tx.run("INSERT INTO layouts VALUES (?, ?, ?, 0)", (command.epoch, layout, at.stamp))
    _drop_staged(control)
    control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp)


def retire_layouts(control: Control, command: RetireLayouts, at: At) -> Receipt:
    control.tx.run(
        "UPDATE layouts SET retired = 1 WHERE retired = 0 AND epoch < ? AND epoch < (SELECT max(epoch) FROM layouts)",
        (command.below,),
    )
    removed = control.tx.changed()
    if removed:
        control.tx.run(
            "DELETE FROM layouts WHERE retired = 1 AND epoch < (SELECT max(epoch) FROM layouts WHERE retired = 1)"
        )
        control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, count=removed)


def _staged(control: Control, command: ApplyLayout) -> bytes:
    if command.layout:
        raise InvalidArgument("meta.layout_twice", "either what is staged is applied or what the command brings")
    row = control.tx.row("SELECT layout FROM staged_layout")
    if row is None or hashlib.sha256(row[0]).digest() != command.staged_hash:
        raise Conflict("meta.layout_staged", "what is staged is not what was shown", hint="see `dwctl layout plan`")
    staged: bytes = row[0]
    return staged


def _drop_staged(control: Control) -> bool:
    control.tx.run("DELETE FROM staged_layout")
    return control.tx.changed() > 0


def _check_size(layout: bytes) -> None:
    if not 0 < len(layout) <= LAYOUT_BYTES_MAX:
        raise InvalidArgument("meta.layout_length", f"a layout has 1 to {LAYOUT_BYTES_MAX} bytes, not {len(layout)}")


def _check_epoch(control: Control, epoch: LayoutEpoch) -> None:
    row = control.tx.row("SELECT coalesce(max(epoch), 0) FROM layouts")
    newest = 0 if row is None else row[0]
    if epoch != newest + 1:
        raise Conflict("meta.layout_epoch", f"the newest layout has epoch {newest}", epoch=newest)
