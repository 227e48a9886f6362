"""What planning a layout costs, and what moves beside the least possible when a node comes, goes or weighs more.

    python -m perf.bench_placement [--largest]

`--largest` adds 1,000 nodes of one device and of ten. Times are seconds of processor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from dwd.base.ids import DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core.layout import Layout, LayoutDevice
from dwd.blocks.core.movement import Load, Movement
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.core.profiles import parse_profile

LOAD = Load(profile=parse_profile("rs-4-2"), data_bytes=1 << 40)
SHAPES = ((6, 1, 1), (6, 6, 1), (12, 3, 1), (12, 1, 1), (30, 3, 1), (60, 1, 1), (60, 3, 1), (100, 5, 1), (100, 5, 4))
LARGEST = ((1_000, 5, 1), (1_000, 5, 10))
"""(nodes, zones, devices a node)."""


def cluster(nodes: int, zones: int, per_node: int) -> list[LayoutDevice]:
    return [
        LayoutDevice(
            device=DeviceId(i + 1), node=NodeId(i // per_node + 1), weight=100, zone=f"z{i // per_node % zones}"
        )
        for i in range(nodes * per_node)
    ]


def planned(devices: Sequence[LayoutDevice], previous: Layout | None) -> tuple[Layout, float]:
    began = time.process_time()
    layout = plan_layout(devices, epoch=LayoutEpoch(1), previous=previous, held_for=(6,))
    return layout, time.process_time() - began


def main() -> None:
    for nodes, zones, per_node in SHAPES + (LARGEST if "--largest" in sys.argv[1:] else ()):
        devices = cluster(nodes + 1, zones, per_node)
        before, first = planned(devices[:-per_node], None)
        grown, added = planned(devices, before)
        told = [f"a node comes {_ratio(before, grown)}"]
        changes = (("goes", devices[per_node:]), ("weighs more", [replace(devices[0], weight=150), *devices[1:]]))
        told += [f"{what} {_ratio(grown, planned(members, grown)[0])}" for what, members in changes]
        shape = f"{nodes} nodes x {per_node}, {zones} zones, {before.partitions} partitions"
        sys.stdout.write(f"{shape}: {first:.1f} s, then {added:.1f} s; {', '.join(told)}\n")
        sys.stdout.flush()


def _ratio(before: Layout, after: Layout) -> str:
    moved = Movement(before, after, [LOAD])
    return f"{moved.moved_bytes / max(1, moved.least_bytes):.2f}"


if __name__ == "__main__":
    main()
