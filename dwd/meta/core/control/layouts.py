"""ApplyLayout, RetireLayouts."""

from __future__ import annotations

from dwd.base.errors import Busy, Conflict
from dwd.meta.core.control.commands import ApplyLayout, RetireLayouts
from dwd.meta.core.control.state import Control, Part, check_blob
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.tx import At

LAYOUTS_MAX = 64
"""Layouts that data may still lie by; a new one must wait until rebalancing has retired old ones."""


def apply_layout(control: Control, command: ApplyLayout, at: At) -> Receipt:
    check_blob(command.layout)
    row = control.tx.row("SELECT coalesce(max(epoch), 0), count(*) FROM layouts")
    newest, count = (0, 0) if row is None else row
    if command.epoch != newest + 1:
        raise Conflict("meta.layout_epoch", f"the newest layout has epoch {newest}", epoch=newest)
    if count >= LAYOUTS_MAX:
        raise Busy("meta.layouts", f"data lies by {count} layouts already; let rebalancing finish")
    control.tx.run("INSERT INTO layouts VALUES (?, ?, ?)", (command.epoch, command.layout, at.stamp))
    control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp)


def retire_layouts(control: Control, command: RetireLayouts, at: At) -> Receipt:
    control.tx.run("DELETE FROM layouts WHERE epoch < ? AND epoch < (SELECT max(epoch) FROM layouts)", (command.below,))
    removed = control.tx.changed()
    if removed:
        control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, count=removed)
