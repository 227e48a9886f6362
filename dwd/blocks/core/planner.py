"""Fills the lists of a layout rank by rank: every prefix is spread, balanced, and as it was before where it may be.

For each rank:
1. a slot keeps the device it had wherever the failure domains allow it;
2. an open slot takes the device it prefers (weighted rendezvous over nodes, then over the node's devices) of those that
   are below their share, and of these one whose coming makes no later entry of the list move;
3. what is still unbalanced is moved slot by slot: devices below their share take from those that can give, devices
   above it give away, directly where that is possible, else along the shortest chain of devices.

A device is within its share when it holds between floor(0.99 x target) and ceil(1.01 x target) slots: the slack is what
keeps rounding from moving data, and it is half of what is promised.

Source: rendezvous hashing, Thaler & Ravishankar 1998; weights after Schindelhauer & Schomaker 2005; the chains are
augmenting paths of a bipartite flow (Ford & Fulkerson 1956).
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from dwd.blocks.core.domain_tree import ROOT, Domains
from dwd.blocks.core.layout import LayoutDevice

NONE = -1
SLACK = 0.01
CANDIDATES_MAX = 128
"""Devices looked at for an open slot when each of them would do some harm."""
VAIN_MAX = 64
"""Devices in a row that find nothing to take before the others are not tried any more."""
CHAIN_CHECKS_MAX = 60_000
"""Moves looked at for one chain: all there are where lists name most devices; larger clusters have direct ways."""
CHAIN_FAILURES_MAX = 8
"""Of one rank; what cannot be balanced by then stays as it is."""
HARM_MAX = 3
"""More makes no difference."""
_ROUNDING = 1e-6
_STRIDE = 0x9E37
"""Odd, so that steps of it visit all partitions, whose number is a power of two."""


class Planner:
    """One plan. `kept`: by partition and rank, the device it had, or NONE."""

    def __init__(
        self,
        table: Sequence[LayoutDevice],
        *,
        partitions: int,
        width: int,
        held_for: Iterable[int],
        kept: list[list[int]],
    ) -> None:
        self._partitions, self._width, self._count = partitions, width, len(table)
        self._domains = Domains(table, width)
        widths = {min(width, max(1, n)) for n in held_for}
        self._moving = max(widths, default=width)
        """Ranks from here on hold nothing: they change for free."""
        self._targets = self._domains.targets(partitions, width, widths)
        self._preference = _Preference(table, self._domains, partitions)
        self._kept = kept
        self._fresh = all(device == NONE for row in kept for device in row)
        self._lists: list[list[int]] = [[NONE] * width for _ in range(partitions)]
        self._inside: list[dict[int, int]] = [{} for _ in range(partitions)]
        """For each partition, entries of it each domain holds so far."""
        self._used = [0] * self._count
        self._lower: list[int] = []
        self._upper: list[int] = []
        self._needy = 0
        """Devices below their share, while open slots are filled."""

    def run(self) -> list[list[int]]:
        for rank in range(self._width):
            self._lower = [math.floor(t * (1 - SLACK) + _ROUNDING) for t in self._targets[rank]]
            self._upper = [math.ceil(t * (1 + SLACK) - _ROUNDING) for t in self._targets[rank]]
            self._needy = 0
            self._keep(rank)
            self._needy = sum(have < low for have, low in zip(self._used, self._lower, strict=True))
            for partition in range(self._partitions):
                if self._lists[partition][rank] == NONE:
                    self._take(partition, rank, self._choose(partition, rank))
            self._balance(rank)
        return self._lists

    def _keep(self, rank: int) -> None:
        for partition, kept in enumerate(self._kept):
            device = kept[rank]
            if device != NONE and self._fits(partition, rank, device):
                self._take(partition, rank, device)

    def _choose(self, partition: int, rank: int) -> int:
        """For an open slot: who needs it most without harm, then whoever may have it, then the least overfull."""
        best, least = NONE, HARM_MAX * 2 + 2
        for device in islice(self._open_devices(partition, rank), CANDIDATES_MAX):
            if self._fresh:
                return device
            content = self._needy > 0 and self._used[device] >= self._lower[device]
            cost = 2 * self._harm(partition, rank, device) + content
            if cost < least:
                best, least = device, cost
                if not cost:
                    break
        return best if best != NONE else self._any(partition, rank)

    def _open_devices(self, partition: int, rank: int) -> Iterator[int]:
        """Those that fit and have room, in the order of preference."""
        inside, domains, used, upper = self._inside[partition], self._domains.all, self._used, self._upper
        fits: dict[int, bool] = {}
        for node in self._preference.nodes(partition):
            parent, held = ROOT, rank
            for domain in self._domains.node_paths[node]:
                here = inside.get(domain, 0)
                fit = fits.get(domain)
                if fit is None:
                    fit = fits[domain] = here < domains[parent].levels[held + 1]
                if not fit:
                    break
                parent, held = domain, here
            else:
                level = domains[parent].levels[held + 1]
                members = [
                    device
                    for device in self._domains.members[node]
                    if used[device] < upper[device] and inside.get(self._domains.paths[device][3], 0) < level
                ]
                yield from members if len(members) < 2 else self._preference.sorted(partition, members)

    def _any(self, partition: int, rank: int) -> int:
        """Nobody below its share fits: the least overfull of those that do."""
        fitting = [d for d in range(self._count) if self._fits(partition, rank, d)]
        return min(fitting, key=lambda d: (self._used[d] / max(1.0, self._targets[rank][d]), d))

    def _balance(self, rank: int) -> None:
        self._fill(rank)
        used, lower, upper = self._used, self._lower, self._upper
        off = [device for device in range(self._count) if not lower[device] <= used[device] <= upper[device]]
        holders = self._holders(rank) if off else []
        failures = 0
        for device in off:
            while failures < CHAIN_FAILURES_MAX and not lower[device] <= used[device] <= upper[device]:
                failures += not self._chain(device, rank, holders, gives=used[device] > upper[device])

    def _fill(self, rank: int) -> None:
        """Devices below their share take slots: first harmlessly of those above theirs, then of whoever can give."""
        used, lower, upper = self._used, self._lower, self._upper
        middle = [max(low, math.floor(t)) for low, t in zip(lower, self._targets[rank], strict=True)]
        self._pass(rank, upper, middle, harmless=True)
        self._pass(rank, middle, lower, harmless=True)
        if any(have < low for have, low in zip(used, lower, strict=True)):
            self._pass(rank, lower, lower, harmless=True)
            self._pass(rank, lower, lower, harmless=False)

    def _pass(self, rank: int, floors: Sequence[int], enough: Sequence[int], *, harmless: bool) -> None:
        """Whoever has more than its floor gives to whoever has not enough."""
        used, lists = self._used, self._lists
        spare = sum(max(0, have - floor) for have, floor in zip(used, floors, strict=True))
        vain = 0
        for taker in range(self._count):
            if not spare or vain >= VAIN_MAX:
                return
            if used[taker] >= enough[taker]:
                continue
            vain += 1
            for partition in self._walk(taker, rank):
                giver = lists[partition][rank]
                if used[giver] <= floors[giver] or giver == taker:
                    continue
                if self._may(partition, rank, giver, taker, harmless=harmless):
                    self._replace(partition, rank, giver, taker)
                    spare -= 1
                    vain = 0
                    if used[taker] >= enough[taker] or not spare:
                        break

    def _may(self, partition: int, rank: int, giver: int, taker: int, *, harmless: bool) -> bool:
        self._release(partition, giver)
        fits = self._fits(partition, rank, taker)
        fits = fits and not (harmless and self._harm(partition, rank, taker))
        self._hold(partition, giver)
        return fits

    def _chain(self, start: int, rank: int, holders: list[set[int]], *, gives: bool) -> bool:
        """One augmenting path: a gives a slot to b, b one to c ... from or to `start`, until somebody can bear it."""
        came: dict[int, tuple[int, int]] = {start: (NONE, NONE)}
        queue = [start]
        budget = iter(range(CHAIN_CHECKS_MAX))
        for at in queue:
            for other, partition in self._neighbours(at, rank, holders, came, budget, gives=gives):
                came[other] = (at, partition)
                if self._used[other] < self._upper[other] if gives else self._used[other] > self._lower[other]:
                    self._shift(other, rank, came, holders, gives=gives)
                    return True
                queue.append(other)
        return False

    def _neighbours(
        self,
        at: int,
        rank: int,
        holders: list[set[int]],
        came: dict[int, tuple[int, int]],
        budget: Iterator[int],
        *,
        gives: bool,
    ) -> Iterator[tuple[int, int]]:
        """Who could take a slot of `at`, or give one to it, and which; what was moved anyway first, then what stays."""
        own = sorted(holders[at], key=lambda p: (self._kept[p][rank] == at, p)) if gives else ()
        for harmless in (True,) if self._fresh else (True, False):
            if gives:
                pairs = ((other, p) for p in own for other in range(self._count))
            else:
                pairs = ((self._lists[p][rank], p) for p in self._walk(at, rank))
            for other, partition in pairs:
                if other in came:
                    continue
                if next(budget, None) is None:
                    return
                giver, taker = (at, other) if gives else (other, at)
                if self._may(partition, rank, giver, taker, harmless=harmless):
                    yield other, partition

    def _shift(
        self, end: int, rank: int, came: dict[int, tuple[int, int]], holders: list[set[int]], *, gives: bool
    ) -> None:
        at, (before, partition) = end, came[end]
        while before != NONE:
            giver, taker = (before, at) if gives else (at, before)
            self._replace(partition, rank, giver, taker)
            holders[giver].discard(partition)
            holders[taker].add(partition)
            at, (before, partition) = before, came[before]

    def _holders(self, rank: int) -> list[set[int]]:
        holders: list[set[int]] = [set() for _ in range(self._count)]
        for partition, row in enumerate(self._lists):
            holders[row[rank]].add(partition)
        return holders

    def _walk(self, device: int, rank: int) -> Iterator[int]:
        """All partitions, in an order of the device's own."""
        mask = self._partitions - 1
        start = self._preference.start(device, rank)
        for step in range(self._partitions):
            yield (start + step * _STRIDE) & mask

    def _harm(self, partition: int, rank: int, device: int) -> int:
        """Entries after this one that would have to move if `device` stood here, as far as anything lies there."""
        if self._fresh or rank + 1 >= self._moving:
            return 0
        later = self._kept[partition][rank + 1 : self._moving]
        if device in later:
            return 1
        had = self._kept[partition][rank]
        if had != NONE and self._domains.node_of[had] == self._domains.node_of[device]:
            return 0
        inside = dict(self._inside[partition])
        harm, held = 0, rank
        for entry in (device, *later):
            if entry != NONE and self._fits_in(inside, held, entry):
                for domain in self._domains.paths[entry]:
                    inside[domain] = inside.get(domain, 0) + 1
            elif entry != NONE:
                harm += 1
                continue
            held += 1
        return min(harm, HARM_MAX)

    def _fits(self, partition: int, rank: int, device: int) -> bool:
        return self._fits_in(self._inside[partition], rank, device)

    def _fits_in(self, inside: dict[int, int], held: int, device: int) -> bool:
        """Whether no domain would hold more of a list of `held` entries and this one than it must."""
        domains, parent = self._domains.all, ROOT
        for domain in self._domains.paths[device]:
            here = inside.get(domain, 0)
            levels = domains[parent].levels
            if here >= levels[min(held + 1, len(levels) - 1)]:
                return False
            parent, held = domain, here
        return True

    def _replace(self, partition: int, rank: int, giver: int, taker: int) -> None:
        self._release(partition, giver)
        self._take(partition, rank, taker)

    def _take(self, partition: int, rank: int, device: int) -> None:
        self._lists[partition][rank] = device
        self._hold(partition, device)

    def _hold(self, partition: int, device: int) -> None:
        inside = self._inside[partition]
        for domain in self._domains.paths[device]:
            inside[domain] = inside.get(domain, 0) + 1
        self._used[device] += 1
        self._needy -= self._used[device] == self._lower[device]

    def _release(self, partition: int, device: int) -> None:
        inside = self._inside[partition]
        for domain in self._domains.paths[device]:
            inside[domain] -= 1
        self._needy += self._used[device] == self._lower[device]
        self._used[device] -= 1


class _Preference:
    """Weighted rendezvous over nodes, then over the devices of a node. Scores are exponential variates divided by
    weight, lower is preferred.
    """

    def __init__(self, table: Sequence[LayoutDevice], domains: Domains, partitions: int) -> None:
        self._table, self._domains, self._partitions = table, domains, partitions
        self._variates = [
            array("I", hashlib.shake_128(table[members[0]].node.to_bytes(8)).digest(4 * partitions))
            for members in domains.members
        ]
        self._weights = [sum(table[d].weight for d in members) for members in domains.members]
        self._orders: dict[int, array[int]] = {}

    def sorted(self, partition: int, devices: list[int]) -> list[int]:
        """Devices of one node."""
        return sorted(devices, key=lambda device: self._score(partition, device))

    def start(self, device: int, rank: int) -> int:
        return self._variates[self._domains.node_of[device]][rank % self._partitions] + device * _STRIDE

    def nodes(self, partition: int) -> array[int]:
        known = self._orders.get(partition)
        if known is None:
            scores = [
                -math.log((variates[partition] + 1) / 2**32) / weight
                for variates, weight in zip(self._variates, self._weights, strict=True)
            ]
            known = self._orders[partition] = array("H", sorted(range(len(scores)), key=scores.__getitem__))
        return known

    def _score(self, partition: int, device: int) -> float:
        seed = partition.to_bytes(4) + self._table[device].device.to_bytes(8)
        variate = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest())
        return -math.log((variate + 1) / 2**64) / self._table[device].weight
