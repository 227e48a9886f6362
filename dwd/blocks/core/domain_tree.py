"""The tree of failure domains below a layout: what each domain must hold of a list, and is to hold of all slots.

    root > zone > rack > node > device

Two numbers rule placement:
* `levels[n]` of a domain: the most any of its children must hold of n entries of one list. No child ever holds more, so
  every prefix of every list is spread as well as the cluster's shape allows;
* `targets[rank]` of a device: the slots (over all partitions, ranks 0..rank) that are its share by weight, bounded by
  what the levels let its domains hold. They are held for the prefixes that profiles in use read and write; between
  those they are interpolated: to hold them at every prefix moves data for nobody's good where domains are uneven.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dwd.blocks.core.layout import LayoutDevice

ROOT = 0


@dataclass(slots=True)
class Domain:
    """`capacity`: devices below it."""

    weight: int = 0
    capacity: int = 0
    children: list[int] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)


class Domains:
    """`paths[i]`: zone, rack, node and leaf of device i, as indexes of `all`. `node_of`: its node, counted from 0;
    `node_paths`: zone, rack and node of each of those.
    """

    def __init__(self, table: Sequence[LayoutDevice], width: int) -> None:
        self.all: list[Domain] = [Domain()]
        self.paths: list[tuple[int, int, int, int]] = []
        self.members: list[list[int]] = []
        """Devices of each node."""
        self.node_of: list[int] = []
        self.node_paths: list[tuple[int, int, int]] = []
        self._build(table)
        for place in self.all:
            capacities = [self.all[c].capacity for c in place.children] or [1]
            place.levels = [_level(capacities, n) for n in range(min(width, place.capacity) + 2)]

    def targets(self, partitions: int, width: int, held_for: Iterable[int]) -> list[list[float]]:
        """By rank, then device: slots of ranks up to that one. `held_for`: the prefixes (fragments) to be balanced."""
        rows: list[list[float]] = []
        low = [0.0] * len(self.paths)
        for high_at in sorted({min(width, max(1, n)) for n in held_for} | {width}):
            low_at, high = len(rows), self._shares(partitions, high_at, None)
            between = [high]
            for n in range(
                high_at - 1, low_at, -1
            ):  # downwards: what the levels force at n holds for those below it too
                part = (n - low_at) / (n + 1 - low_at)
                wishes = [a + (b - a) * part for a, b in zip(low, between[-1], strict=True)]
                between.append(self._shares(partitions, n, wishes))
            rows += reversed(between)
            low = high
        return rows

    def _shares(self, partitions: int, held: int, wishes: Sequence[float] | None) -> list[float]:
        """Slots of each device for prefixes of `held`: by `wishes`, else by weight, within what the levels allow."""
        weights = [float(domain.weight) for domain in self.all]
        if wishes is not None:
            weights = [0.0] * len(self.all)
            for path, wish in zip(self.paths, wishes, strict=True):
                for domain in path:
                    weights[domain] += wish
        shares = [0.0] * len(self.all)
        queue = [(ROOT, held, float(partitions * held))]
        while queue:
            index, inside, total = queue.pop()
            shares[index] = total
            place = self.all[index]
            if not place.children:
                continue
            inside_max = [min(place.levels[min(inside, place.capacity)], self.all[c].capacity) for c in place.children]
            caps = [partitions * n for n in inside_max]
            split = _proportional([weights[c] for c in place.children], caps, total)
            queue.extend(zip(place.children, inside_max, split, strict=True))
        return [shares[path[3]] for path in self.paths]

    def _build(self, table: Sequence[LayoutDevice]) -> None:
        known: dict[tuple[object, ...], int] = {(): ROOT}
        nodes: dict[int, int] = {}
        for number, device in enumerate(table):
            path, parent = [], ROOT
            names = (device.zone, device.rack, device.node, device.device)
            for depth in range(1, len(names) + 1):
                index = known.get(names[:depth])
                if index is None:
                    index = known[names[:depth]] = len(self.all)
                    self.all.append(Domain())
                    self.all[parent].children.append(index)
                path.append(index)
                parent = index
            for index in (ROOT, *path):
                self.all[index].weight += device.weight
                self.all[index].capacity += 1
            self.paths.append((path[0], path[1], path[2], path[3]))
            node = nodes.setdefault(path[2], len(self.members))
            if node == len(self.members):
                self.members.append([])
                self.node_paths.append((path[0], path[1], path[2]))
            self.members[node].append(number)
            self.node_of.append(node)


def _level(capacities: Sequence[int], slots: int) -> int:
    """The least possible load of the fullest child when `slots` are spread over children of these capacities."""
    level, wanted = 0, min(slots, sum(capacities))
    while sum(min(level, c) for c in capacities) < wanted:
        level += 1
    return level


def _proportional(weights: Sequence[float], caps: Sequence[int], total: float) -> list[float]:
    """`total` split by weight, nobody above its cap; what a cap cuts off goes to the others."""
    shares = [0.0] * len(weights)
    free, rest = set(range(len(weights))), min(total, float(sum(caps)))
    while free:
        weight = sum(weights[i] for i in free)
        if weight <= 0:
            weights = [1.0] * len(weights)
            continue
        full = {i for i in free if rest * weights[i] / weight >= caps[i]}
        if not full:
            for i in free:
                shares[i] = rest * weights[i] / weight
            break
        for i in full:
            shares[i] = float(caps[i])
        rest -= sum(caps[i] for i in full)
        free -= full
    return shares
