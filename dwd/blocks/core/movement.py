"""What a change of layout costs and risks: slots and bytes each device gives and takes, and the losses every profile
survives before, while data moves, and after.

A block moves as a whole: its row changes once, when all its fragments are written at their new places and read back
(`dwd.blocks.repair`). So "during" some blocks lie as before and the others as after. Only a device that does not take
what the layout gives it leaves fragments behind, until it does: "at worst" is the worst mixture of old and new places,
fragment by fragment, and holds whichever devices that are, wherever moving stops.

Losses survived are counted over whole domains of a level (zones, racks, nodes, devices): the most that may be lost at
once, whichever they are, with every block of the profile still readable. The worst partition decides.

Source of the search for the worst mixture: choosing f domains that cover most fragments is maximum coverage; the sum of
the f largest domains bounds it from above, and only where that bound fails the sets are tried one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from dwd.base.ids import DeviceId, NodeId
from dwd.blocks.core.layout import Layout, LayoutDevice
from dwd.blocks.core.profiles import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Plain bytes stored under a profile."""

    profile: Profile
    data_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """How many whole domains of each level may be lost at once."""

    zones: int
    racks: int
    nodes: int
    devices: int

    def least(self, other: Losses) -> Losses:
        return Losses(
            zones=min(self.zones, other.zones),
            racks=min(self.racks, other.racks),
            nodes=min(self.nodes, other.nodes),
            devices=min(self.devices, other.devices),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """All but `after` are None for a first layout. `at_worst`: should devices stop taking data while it moves."""

    profile: Profile
    before: Losses | None
    during: Losses | None
    at_worst: Losses | None
    after: Losses


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMovement:
    """Slots are places of fragments (over the widest profile with data, or asked for); bytes as they lie on disk."""

    device: DeviceId
    node: NodeId
    slots_before: int
    slots_after: int
    bytes_in: int
    bytes_out: int


class Movement:
    """From one layout to another, with what is stored. Pure; each answer is computed once, when it is asked for."""

    def __init__(self, before: Layout | None, after: Layout, loads: Sequence[Load]) -> None:
        self._before = before
        self._after = after
        self._loads = tuple(loads)
        self._width = max((load.profile.fragments for load in loads), default=after.width)
        self._partitions = max(after.partitions, before.partitions if before is not None else 1)
        known = {d.device: d for d in (*(before.devices if before is not None else ()), *after.devices)}
        self._domains = [{d: _domain(known[d], level) for d in known} for level in _LEVELS]

    @cached_property
    def devices(self) -> tuple[DeviceMovement, ...]:
        """Every device of either layout, by id."""
        gives, takes = Counter[DeviceId](), Counter[DeviceId]()
        held = Counter[DeviceId]()
        holds = Counter[DeviceId]()
        weights = self._bytes_of_ranks
        for old, new in self._pairs(self._width):
            held.update(old)
            holds.update(new)
            for rank, device in enumerate(new):
                if old and old[rank] != device:
                    gives[old[rank]] += weights[rank]
                    takes[device] += weights[rank]
        nodes = {d.device: d.node for layout in (self._before, self._after) if layout for d in layout.devices}
        parts = self._partitions
        return tuple(
            DeviceMovement(
                device=device,
                node=nodes[device],
                slots_before=held[device],
                slots_after=holds[device],
                bytes_in=takes[device] // parts,
                bytes_out=gives[device] // parts,
            )
            for device in sorted(nodes)
        )

    @cached_property
    def moved_bytes(self) -> int:
        return self._moved[0]

    @cached_property
    def least_bytes(self) -> int:
        """What any change to these shares must move: what each device ends with beyond what it had."""
        if self._before is None:
            return 0
        weights, more = self._bytes_of_ranks, Counter[DeviceId]()
        for old, new in self._pairs(self._width):
            for rank, weight in enumerate(weights):
                more[new[rank]] += weight
                more[old[rank]] -= weight
        return sum(gain for gain in more.values() if gain > 0) // self._partitions

    @cached_property
    def stored_bytes(self) -> int:
        """What lies on all devices."""
        return sum(self._bytes_of_ranks)

    @cached_property
    def moved_slots(self) -> int:
        return self._moved[1]

    @cached_property
    def survivals(self) -> tuple[Survival, ...]:
        """One for each profile of the loads, in their order."""
        return tuple(self.survival(profile) for profile in dict.fromkeys(load.profile for load in self._loads))

    def survival(self, profile: Profile) -> Survival:
        pairs = list(set(self._pairs(profile.fragments)))
        parity = profile.parity
        after = self._losses(parity, ((new,) for _, new in pairs))
        if self._before is None:
            return Survival(profile=profile, before=None, during=None, at_worst=None, after=after)
        before = self._losses(parity, ((old,) for old, _ in pairs))
        mixed = self._losses(parity, ((old, new) for old, new in pairs if old != new))
        during = before.least(after)
        return Survival(profile=profile, before=before, during=during, at_worst=mixed.least(during), after=after)

    @cached_property
    def _moved(self) -> tuple[int, int]:
        total = slots = 0
        weights = self._bytes_of_ranks
        for old, new in self._pairs(self._width):
            for rank, weight in enumerate(weights):
                if old and old[rank] != new[rank]:
                    total += weight
                    slots += 1
        return total // self._partitions, slots

    @cached_property
    def _bytes_of_ranks(self) -> list[int]:
        """Bytes on disk of fragment i of all blocks."""
        ranks = [0] * self._width
        for load in self._loads:
            for rank in range(load.profile.fragments):
                ranks[rank] += load.data_bytes // load.profile.data
        return ranks

    def _pairs(self, fragments: int) -> Iterator[tuple[tuple[DeviceId, ...], tuple[DeviceId, ...]]]:
        """The places of a block's fragments in each partition (of the finer layout), before and after."""
        for partition in range(self._partitions):
            yield (
                _places(self._before, partition, self._partitions, fragments),
                _places(self._after, partition, self._partitions, fragments),
            )

    def _losses(self, parity: int, stripes: Iterable[tuple[Sequence[DeviceId], ...]]) -> Losses:
        least = [parity] * len(_LEVELS)
        for stripe in stripes:
            for level, domains in enumerate(self._domains):
                choices = [{domains[d] for d in places} for places in zip(*stripe, strict=True)]
                if least[level]:
                    least[level] = _survived(choices, parity, least[level])
        return Losses(zones=least[0], racks=least[1], nodes=least[2], devices=least[3])


_LEVELS = ("zone", "rack", "node", "device")


def _places(layout: Layout | None, partition: int, partitions: int, fragments: int) -> tuple[DeviceId, ...]:
    if layout is None:
        return ()
    devices = layout.device_list(partition * layout.partitions // partitions)
    return tuple(devices[i % len(devices)] for i in range(fragments))


def _domain(device: LayoutDevice, level: str) -> object:
    """Racks of two zones may be called the same; a node may have shelves that are racks of their own."""
    match level:
        case "zone":
            return device.zone
        case "rack":
            return device.zone, device.rack
        case "node":
            return device.node
        case _:
            return device.device


def _survived(choices: Sequence[set[object]], parity: int, limit: int) -> int:
    """The most domains, up to `limit`, any of which may be lost together; a fragment may be in any of its choices."""
    covers: dict[object, int] = {}
    for fragment, domains in enumerate(choices):
        for domain in domains:
            covers[domain] = covers.get(domain, 0) | 1 << fragment
    sets = sorted(covers.values(), key=int.bit_count, reverse=True)
    survived = limit
    while survived and sum(map(int.bit_count, sets[:survived])) > parity and _coverable(sets, survived, parity):
        survived -= 1
    return survived


def _coverable(sets: Sequence[int], count: int, parity: int, union: int = 0, start: int = 0) -> bool:
    """Whether some `count` of the sets, largest first, hold more than `parity` fragments together with `union`."""
    held = union.bit_count()
    if held > parity:
        return True
    for at in range(start, len(sets)):
        if held + sum(map(int.bit_count, sets[at : at + count])) <= parity:
            return False
        if _coverable(sets, count - 1, parity, union | sets[at], at + 1):
            return True
    return False
