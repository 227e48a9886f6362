"""Making layouts: which devices, how many partitions, what is kept of the layout before.

`planner` fills the lists, `domain_tree` says what each device must and may hold.

Invariants: deterministic in its arguments; for every prefix of every list, the most loaded domain of each level holds
as little as its capacity forces; no device twice in a list while another device is unused. For the prefixes `held_for`
every device's share is within 2 % of its weight from 100 slots on, as far as the failure domains allow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dwd.base.errors import InvalidArgument
from dwd.base.ids import DeviceId, LayoutEpoch
from dwd.blocks.core.layout import (
    DEVICES_MAX,
    LAYOUT_BYTES_MAX,
    PARTITIONS_DEFAULT,
    PLACEMENT_BITS,
    Layout,
    LayoutDevice,
    encoded_bytes,
    pack_slots,
)
from dwd.blocks.core.planner import NONE, Planner
from dwd.blocks.core.profiles import FRAGMENTS_MAX

HELD_FOR_DEFAULT = (6,)
"""Profiles differ less from each other than from nothing: a first layout is balanced for six fragments."""
SLOTS_PER_DEVICE = 100
"""Partitions are halved while a device has fewer than so many slots, ..."""
SLOTS_FRAGMENTS = 6
"""... of a profile so wide."""


def plan_layout(
    devices: Sequence[LayoutDevice],
    *,
    epoch: LayoutEpoch,
    previous: Layout | None = None,
    partitions: int = 0,
    width: int = FRAGMENTS_MAX,
    held_for: Iterable[int] = (),
) -> Layout:
    """The layout of `devices` (those of weight 0 get nothing). `partitions` 0: as many as the cluster's size asks for.
    `held_for`: the widths of the profiles in use. Raises InvalidArgument when none can hold data, or too many.
    """
    table = tuple(sorted((d for d in devices if d.weight > 0), key=lambda d: d.device))
    if not table or len(table) > DEVICES_MAX or len({d.device for d in table}) != len(table):
        raise InvalidArgument("blocks.layout_devices", "a layout needs distinct devices of positive weight")
    width = min(width, len(table))
    partitions = partitions or partitions_for(table, width, previous.partitions if previous is not None else 0)
    planner = Planner(
        table,
        partitions=partitions,
        width=width,
        held_for=tuple(held_for) or HELD_FOR_DEFAULT,
        kept=_kept(previous, table, partitions, width),
    )
    return Layout(epoch=epoch, partitions=partitions, width=width, devices=table, slots=pack_slots(planner.run()))


def partitions_for(table: Sequence[LayoutDevice], width: int, present: int = 0) -> int:
    """Enough for SLOTS_PER_DEVICE, as far as the layout still fits a command; never fewer than there are now.
    Raises InvalidArgument.
    """
    partitions = max(present, PARTITIONS_DEFAULT)
    if encoded_bytes(table, partitions, width) > LAYOUT_BYTES_MAX:
        raise InvalidArgument(
            "blocks.layout_too_large",
            f"a layout of {len(table)} devices and {partitions} partitions takes more than {LAYOUT_BYTES_MAX} bytes",
            hint="use fewer and larger devices",
        )
    while (
        partitions * min(SLOTS_FRAGMENTS, width) < SLOTS_PER_DEVICE * len(table)
        and partitions < 1 << PLACEMENT_BITS
        and encoded_bytes(table, partitions * 2, width) <= LAYOUT_BYTES_MAX
    ):
        partitions *= 2
    return partitions


def _kept(previous: Layout | None, table: Sequence[LayoutDevice], partitions: int, width: int) -> list[list[int]]:
    """The previous lists as indexes into the new table, NONE where the device is gone."""
    if previous is None or previous.partitions > partitions:
        return [[NONE] * width for _ in range(partitions)]
    index: Mapping[DeviceId, int] = {d.device: i for i, d in enumerate(table)}
    now = [index.get(d.device, NONE) for d in previous.devices]
    factor = partitions // previous.partitions
    lists = []
    for partition in range(partitions):
        start = partition // factor * previous.width
        old = [now[i] for i in previous.slots[start : start + previous.width]]
        lists.append((old + [NONE] * width)[:width])
    return lists
