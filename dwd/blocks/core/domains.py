"""The failure domains at hand, and how the fragments of a block come to lie over them.

Placement fills domains evenly, zones before nodes before devices (dwd.blocks.core.placement): what one loss takes with
it follows from the shape of the cluster alone, and so does what a profile needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from dwd.base.errors import InvalidArgument
from dwd.base.ids import NodeId

DEVICES_MAX = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Domains:
    """`zones[z][n]`: devices of node n of zone z, each at least 1. A cluster without zones has one."""

    zones: tuple[tuple[int, ...], ...]

    @property
    def devices(self) -> int:
        return sum(sum(zone) for zone in self.zones)

    @property
    def nodes(self) -> int:
        return sum(len(zone) for zone in self.zones)

    def __str__(self) -> str:
        parts = [_count(self.devices, "device"), _count(self.nodes, "node")]
        if len(self.zones) > 1:
            parts.append(_count(len(self.zones), "zone"))
        return " on ".join(parts[:2]) + "".join(f" in {part}" for part in parts[2:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Fragments of a block on each zone, node and device that has any, most first."""

    zones: tuple[int, ...]
    nodes: tuple[int, ...]
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """How many devices, nodes, zones may go at once, whichever they are."""

    devices: int
    nodes: int
    zones: int


def domains_of(devices: Iterable[tuple[str, NodeId]]) -> Domains:
    """From the (zone, node) of each device."""
    count = Counter(devices)
    by_zone: dict[str, list[int]] = {}
    for (zone, _), held in count.items():
        by_zone.setdefault(zone, []).append(held)
    return Domains(zones=tuple(sorted(tuple(sorted(nodes, reverse=True)) for nodes in by_zone.values())))


def even_domains(*, devices: int = 0, nodes: int = 0, zones: int = 0) -> Domains:
    """A cluster imagined: devices spread evenly over nodes, nodes over zones; what is not said (0) follows from the
    rest, a node having one device. Raises InvalidArgument.
    """
    devices = devices or max(nodes, zones)
    nodes = nodes or max(devices, zones)
    zones = zones or 1
    if not 0 < zones <= nodes <= devices <= DEVICES_MAX:
        raise InvalidArgument(
            "blocks.impossible_cluster",
            f"{_count(devices, 'device')} on {_count(nodes, 'node')} in {_count(zones, 'zone')} cannot be",
            hint=f"every zone has a node and every node a device; at most {DEVICES_MAX:,} devices",
        )
    per_node = [devices // nodes + (n < devices % nodes) for n in range(nodes)]
    return Domains(zones=tuple(tuple(per_node[z::zones]) for z in range(zones)))


@lru_cache(maxsize=1024)
def spread(domains: Domains, fragments: int) -> Spread:
    """Where the fragments of a block come to lie: devices hold a second one only when each has one."""
    in_zone, on_node = [0] * len(domains.zones), [[0] * len(zone) for zone in domains.zones]
    if not domains.devices:
        return Spread(zones=(), nodes=(), devices=())
    for number in range(fragments):
        rounds = number // domains.devices + 1
        free = [z for z, zone in enumerate(domains.zones) if in_zone[z] < rounds * sum(zone)]
        z = min(free, key=in_zone.__getitem__)
        nodes = [n for n, devices in enumerate(domains.zones[z]) if on_node[z][n] < rounds * devices]
        n = min(nodes, key=on_node[z].__getitem__)
        in_zone[z] += 1
        on_node[z][n] += 1
    held = [(devices, on_node[z][n]) for z, zone in enumerate(domains.zones) for n, devices in enumerate(zone)]
    return Spread(
        zones=_falling(in_zone),
        nodes=_falling(fragments for _, fragments in held),
        devices=_falling(count // devices + (d < count % devices) for devices, count in held for d in range(devices)),
    )


def survived(domains: Domains, *, data: int, parity: int) -> Survived:
    """What a block of so many fragments survives on these domains."""
    found = spread(domains, data + parity)
    return Survived(
        devices=_losses(found.devices, parity), nodes=_losses(found.nodes, parity), zones=_losses(found.zones, parity)
    )


def _losses(held: tuple[int, ...], parity: int) -> int:
    """Domains that may go, the fullest first, before more than `parity` fragments are gone."""
    lost = 0
    for number, fragments in enumerate(held):
        lost += fragments
        if lost > parity:
            return number
    return len(held)


def _falling(counts: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted((count for count in counts if count), reverse=True))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
