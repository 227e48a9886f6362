"""Making layouts: weighted rendezvous hashing, bounded by failure domains and refined for balance.

Rank by rank, each partition takes the device it prefers (rendezvous: Thaler & Ravishankar 1998, weights after
Schindelhauer & Schomaker 2005) among those that
1. do not put more of the list's prefix into one zone, then rack, then node, than the cluster's shape forces, and
2. are below their share of the slots up to that rank, as far as (1) leaves a choice.

With a previous layout every slot first keeps its device where (1) and (2) still hold; only what must change moves.

Invariants: deterministic in its arguments; for every prefix of every list, the most loaded domain of each level holds
as little as its capacity forces (`_levels`); no device twice in a list while another device is unused.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dwd.base.errors import InvalidArgument
from dwd.base.ids import DeviceId, LayoutEpoch
from dwd.blocks.core.layout import DEVICES_MAX, PARTITIONS_DEFAULT, Layout, LayoutDevice, pack_slots
from dwd.blocks.core.profiles import FRAGMENTS_MAX

_NONE = -1


@dataclass(slots=True)
class _Domain:
    """A node of the tree zone -> rack -> node -> device. `levels[n]`: the most any child must hold of n slots."""

    weight: int
    capacity: int
    children: list[int] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    allowed: list[int] = field(default_factory=list)
    """Slots this domain may hold over all partitions up to the rank being filled."""
    used: int = 0


def plan_layout(
    devices: Sequence[LayoutDevice],
    *,
    epoch: LayoutEpoch,
    previous: Layout | None = None,
    partitions: int = PARTITIONS_DEFAULT,
    width: int = FRAGMENTS_MAX,
) -> Layout:
    """The layout of `devices` (those of weight 0 get nothing). Raises InvalidArgument when none can hold data."""
    table = tuple(sorted((d for d in devices if d.weight > 0), key=lambda d: d.device))
    if not table or len(table) > DEVICES_MAX or len({d.device for d in table}) != len(table):
        raise InvalidArgument("blocks.layout_devices", "a layout needs distinct devices of positive weight")
    width = min(width, len(table))
    planner = _Planner(table, partitions, width)
    lists = planner.run(_kept(previous, table, partitions, width))
    return Layout(epoch=epoch, partitions=partitions, width=width, devices=table, slots=pack_slots(lists))


def moved_slots(before: Layout, after: Layout, *, fragments: int) -> int:
    """Fragment places that differ between two layouts of as many partitions, of profiles `fragments` wide."""
    count = 0
    for partition in range(after.partitions):
        old, new = before.device_list(partition), after.device_list(partition)
        count += sum(old[i % len(old)] != new[i % len(new)] for i in range(fragments))
    return count


def _kept(previous: Layout | None, table: Sequence[LayoutDevice], partitions: int, width: int) -> list[list[int]]:
    """The previous lists as indexes into the new table, `_NONE` where the device is gone."""
    if previous is None or previous.partitions > partitions:
        return [[_NONE] * width for _ in range(partitions)]
    index: Mapping[DeviceId, int] = {d.device: i for i, d in enumerate(table)}
    factor = partitions // previous.partitions
    lists = []
    for partition in range(partitions):
        old = [index.get(d, _NONE) for d in previous.device_list(partition // factor)]
        lists.append((old + [_NONE] * width)[:width])
    return lists


class _Planner:
    def __init__(self, table: Sequence[LayoutDevice], partitions: int, width: int) -> None:
        self._partitions, self._width, self._count = partitions, width, len(table)
        self._domains: list[_Domain] = []
        self._paths: list[tuple[int, int, int, int]] = []
        self._root = self._build(table)
        self._set_shares()
        self._scores = [_scores(table, partition) for partition in range(partitions)]
        self._order = [sorted(range(self._count), key=row.__getitem__) for row in self._scores]
        self._inside: list[dict[int, int]] = [{} for _ in range(partitions)]
        """For each partition, slots each domain holds of it so far."""

    def run(self, kept: list[list[int]]) -> list[list[int]]:
        lists: list[list[int]] = [[_NONE] * self._width for _ in range(self._partitions)]
        for rank in range(self._width):
            open_slots = self._keep(rank, kept, lists)
            for partition in open_slots:
                self._take(partition, rank, self._choose(partition, rank, kept[partition]), lists)
            self._balance(rank, kept, lists)
        return lists

    def _keep(self, rank: int, kept: list[list[int]], lists: list[list[int]]) -> list[int]:
        """Fill rank `rank` with the devices it had, best matched first; the partitions left open."""
        wishes = [(self._scores[p][kept[p][rank]], p) for p in range(self._partitions) if kept[p][rank] != _NONE]
        for _, partition in sorted(wishes):
            device = kept[partition][rank]
            if self._fits_domains(partition, rank, device) and self._has_share(device, rank):
                self._take(partition, rank, device, lists)
        return [p for p in range(self._partitions) if lists[p][rank] == _NONE]

    def _choose(self, partition: int, rank: int, kept: Sequence[int]) -> int:
        fallback, least = _NONE, math.inf
        later = set(kept[rank + 1 :])
        spare = _NONE
        for device in self._order[partition]:
            if not self._fits_domains(partition, rank, device):
                continue
            if self._has_share(device, rank):
                if device not in later:
                    return device
                spare = device if spare == _NONE else spare
            leaf = self._domains[self._paths[device][3]]
            excess = leaf.used / max(1, leaf.allowed[rank])
            if excess < least:
                fallback, least = device, excess
        return spare if spare != _NONE else fallback

    def _balance(self, rank: int, kept: list[list[int]], lists: list[list[int]]) -> None:
        """Take slots of this rank from devices above their share, along the shortest chain to one below it."""
        holders: list[list[int]] = [[] for _ in range(self._count)]
        for partition in range(self._partitions):
            device = lists[partition][rank]
            stays = kept[partition][rank] == device
            holders[device].append(partition + (self._partitions if stays else 0))
        for row in holders:
            row.sort()
        for device in range(self._count):
            leaf = self._domains[self._paths[device][3]]
            while leaf.used > leaf.allowed[rank] and self._pass_on(device, rank, lists, holders):
                pass

    def _pass_on(self, start: int, rank: int, lists: list[list[int]], holders: list[list[int]]) -> bool:
        """One augmenting path: start gives a slot to b, b one to c, ... until a device below its share takes one."""
        came: dict[int, tuple[int, int]] = {start: (_NONE, _NONE)}
        queue = [start]
        for giver in queue:
            for marked in holders[giver]:
                partition = marked % self._partitions
                self._release(partition, giver)
                takers = [d for d in range(self._count) if d not in came and self._fits_domains(partition, rank, d)]
                self._hold(partition, giver)
                for taker in takers:
                    came[taker] = (giver, marked)
                    leaf = self._domains[self._paths[taker][3]]
                    if leaf.used < leaf.allowed[rank]:
                        self._shift(taker, rank, came, lists, holders)
                        return True
                    queue.append(taker)
        return False

    def _shift(
        self,
        taker: int,
        rank: int,
        came: Mapping[int, tuple[int, int]],
        lists: list[list[int]],
        holders: list[list[int]],
    ) -> None:
        giver, marked = came[taker]
        while giver != _NONE:
            partition = marked % self._partitions
            self._release(partition, giver)
            self._take(partition, rank, taker, lists)
            holders[giver].remove(marked)
            holders[taker].append(partition)
            taker = giver
            giver, marked = came[taker]

    def _fits_domains(self, partition: int, rank: int, device: int) -> bool:
        inside = self._inside[partition]
        parent, held = self._root, rank
        for domain in self._paths[device]:
            here = inside.get(domain, 0)
            if here >= self._domains[parent].levels[held + 1]:
                return False
            parent, held = domain, here
        return True

    def _has_share(self, device: int, rank: int) -> bool:
        return all(self._domains[d].used < self._domains[d].allowed[rank] for d in self._paths[device])

    def _take(self, partition: int, rank: int, device: int, lists: list[list[int]]) -> None:
        lists[partition][rank] = device
        self._hold(partition, device)

    def _hold(self, partition: int, device: int) -> None:
        inside = self._inside[partition]
        for domain in self._paths[device]:
            inside[domain] = inside.get(domain, 0) + 1
            self._domains[domain].used += 1

    def _release(self, partition: int, device: int) -> None:
        inside = self._inside[partition]
        for domain in self._paths[device]:
            inside[domain] -= 1
            self._domains[domain].used -= 1

    def _build(self, table: Sequence[LayoutDevice]) -> int:
        """The tree of domains; every device's path from zone to itself."""
        root = self._add(None)
        known: dict[tuple[object, ...], int] = {}
        for device in table:
            parent, path = root, []
            for key in (
                (device.zone,),
                (device.zone, device.rack),
                (device.zone, device.rack, device.node),
                (device.zone, device.rack, device.node, device.device),
            ):
                if key not in known:
                    known[key] = self._add(parent)
                parent = known[key]
                path.append(parent)
            for domain in (root, *path):
                self._domains[domain].weight += device.weight
                self._domains[domain].capacity += 1
            self._paths.append((path[0], path[1], path[2], path[3]))
        for place in self._domains:
            capacities = [self._domains[c].capacity for c in place.children] or [1]
            place.levels = [_level(capacities, n) for n in range(min(self._width, place.capacity) + 2)]
        return root

    def _add(self, parent: int | None) -> int:
        self._domains.append(_Domain(weight=0, capacity=0))
        if parent is not None:
            self._domains[parent].children.append(len(self._domains) - 1)
        return len(self._domains) - 1

    def _set_shares(self) -> None:
        """Every domain's slots up to each rank: by weight, bounded by what failure domains allow it to hold."""
        for rank in range(self._width):
            queue = [(self._root, rank + 1, self._partitions * (rank + 1))]
            while queue:
                index, held, total = queue.pop()
                domain = self._domains[index]
                domain.allowed.append(total)
                children = [self._domains[c] for c in domain.children]
                held_max = [min(domain.levels[held], c.capacity) for c in children]
                caps = [self._partitions * n for n in held_max]
                shares = _whole(_proportional([c.weight for c in children], caps, total), total)
                queue.extend(zip(domain.children, held_max, shares, strict=True))


def _level(capacities: Sequence[int], slots: int) -> int:
    """The least possible load of the fullest child when `slots` are spread over children of these capacities."""
    level = 0
    while sum(min(level, c) for c in capacities) < min(slots, sum(capacities)):
        level += 1
    return level


def _proportional(weights: Sequence[int], caps: Sequence[int], total: int) -> list[float]:
    """`total` split by weight, nobody above its cap; what a cap cuts off goes to the others."""
    shares = [0.0] * len(weights)
    free, rest = set(range(len(weights))), float(min(total, sum(caps)))
    while free:
        weight = sum(weights[i] for i in free)
        full = {i for i in free if rest * weights[i] / weight >= caps[i]}
        if not full:
            for i in free:
                shares[i] = rest * weights[i] / weight
            break
        for i in full:
            shares[i] = caps[i]
        rest -= sum(caps[i] for i in full)
        free -= full
    return shares


def _whole(shares: Sequence[float], total: int) -> list[int]:
    """Shares rounded to integers that still add up (largest remainders first)."""
    floors = [math.floor(share + 1e-6) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: (floors[i] - shares[i], i))
    for i in by_remainder[: max(0, total - sum(floors))]:
        floors[i] += 1
    return floors


def _scores(table: Sequence[LayoutDevice], partition: int) -> array[float]:
    """Rendezvous scores, lower is preferred: exponential variates divided by weight."""
    seed = partition.to_bytes(4)
    return array(
        "d",
        [
            -math.log(
                (int.from_bytes(hashlib.blake2b(seed + d.device.to_bytes(8), digest_size=8).digest()) + 1) / 2**64
            )
            / d.weight
            for d in table
        ],
    )
