"""What a change of layout moves and risks, against brute force on small clusters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

import pytest

from dwd.base.ids import DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core.layout import Layout, LayoutDevice, pack_slots
from dwd.blocks.core.movement import Load, Losses, Movement
from dwd.blocks.core.profiles import parse_profile
from tests.twins.virtual_time import SeededRng

MIB = 1 << 20


def device(number: int, node: int | None = None, zone: str = "", rack: str = "") -> LayoutDevice:
    return LayoutDevice(device=DeviceId(number), node=NodeId(node or number), weight=10, zone=zone, rack=rack)


def made(devices: Sequence[LayoutDevice], lists: Sequence[Sequence[int]], epoch: int = 1) -> Layout:
    """A layout whose lists name devices by id."""
    index = {d.device: i for i, d in enumerate(devices)}
    rows = [[index[DeviceId(d)] for d in row] for row in lists]
    return Layout(
        epoch=LayoutEpoch(epoch), partitions=len(rows), width=len(rows[0]), devices=tuple(devices),
        slots=pack_slots(rows),
    )  # fmt: skip


def load(profile: str = "rs-4-2", data_bytes: int = 0) -> Load:
    return Load(profile=parse_profile(profile), data_bytes=data_bytes)


def brute(stripes: Sequence[Sequence[Sequence[int]]], domain_of: dict[int, object], parity: int) -> int:
    """The most domains, any of which may be lost: every stripe, every mixture of its places, every set of domains.
    A stripe is the choices of each of its fragments.
    """
    domains = sorted({str(domain_of[d]) for stripe in stripes for choices in stripe for d in choices})
    for lost in range(1, parity + 1):
        for gone in combinations(domains, min(lost, len(domains))):
            for stripe in stripes:
                for mixture in product(*stripe):
                    if sum(str(domain_of[d]) in gone for d in mixture) > parity:
                        return lost - 1
    return parity


def shuffled(rng: SeededRng, ids: Sequence[int]) -> list[int]:
    return [n for _, n in sorted((rng.bits(32), n) for n in ids)]


@pytest.mark.parametrize("seed", range(12))
def test_losses_survived_equal_brute_force_when_clusters_are_small(seed: int) -> None:
    rng = SeededRng(seed)
    count = 3 + rng.bits(32) % 5
    devices = [device(n, (n + 1) // 2, f"z{n % 3}", f"r{n % 2}") for n in range(1, count + 1)]
    ids = [int(d.device) for d in devices]
    before, after = (made(devices, [shuffled(rng, ids)[:5] for _ in range(4)], e) for e in (1, 2))
    for name in ("rs-2-2", "replica-3", "rs-2-3"):
        profile = parse_profile(name)
        found = Movement(before, after, [load(name)]).survival(profile)
        old, new = (
            [[lay.device_list(p)[i % lay.width] for i in range(profile.fragments)] for p in range(4)]
            for lay in (before, after)
        )
        mixed = [list(zip(a, b, strict=True)) for a, b in zip(old, new, strict=True)]
        levels = (
            {int(d.device): d.zone for d in devices},
            {int(d.device): (d.zone, d.rack) for d in devices},
            {int(d.device): d.node for d in devices},
            {n: n for n in ids},
        )

        def expect(stripes: Sequence[Sequence[Sequence[int]]], *, parity: int = profile.parity) -> Losses:
            zones, racks, nodes, each = (brute(stripes, dict(level), parity) for level in levels)  # noqa: B023
            return Losses(zones=zones, racks=racks, nodes=nodes, devices=each)

        assert found.before == expect([[(d,) for d in stripe] for stripe in old])
        assert found.after == expect([[(d,) for d in stripe] for stripe in new])
        assert found.during == found.before.least(found.after)
        assert found.at_worst == expect(mixed)


def test_bytes_in_and_out_are_those_of_the_slots_that_change() -> None:
    devices = [device(n) for n in (1, 2, 3, 4)]
    before = made(devices[:3], [[1, 2, 3], [2, 3, 1]])
    after = made(devices, [[1, 2, 4], [2, 3, 1]], 2)
    # 6 MiB of plain bytes as rs-2-1: 3 MiB in each rank, 1.5 MiB in each slot of two partitions.
    moved = Movement(before, after, [load("rs-2-1", 6 * MIB)])
    half = 3 * MIB // 2
    by_device = {int(d.device): (d.slots_before, d.slots_after, d.bytes_in, d.bytes_out) for d in moved.devices}
    assert by_device == {1: (2, 2, 0, 0), 2: (2, 2, 0, 0), 3: (2, 1, 0, half), 4: (0, 1, half, 0)}
    assert (moved.moved_slots, moved.moved_bytes, moved.least_bytes, moved.stored_bytes) == (1, half, half, 9 * MIB)


def test_least_is_below_what_moves_when_devices_only_swap() -> None:
    devices = [device(n) for n in (1, 2)]
    swapped = Movement(made(devices, [[1, 2]]), made(devices, [[2, 1]], 2), [load("replica-2", MIB)])
    assert (swapped.moved_bytes, swapped.least_bytes) == (2 * MIB, 0)


def test_partitions_are_compared_over_the_finer_layout_when_they_were_halved() -> None:
    devices = [device(n) for n in (1, 2, 3)]
    before, after = made(devices, [[1, 2]]), made(devices, [[1, 2], [3, 2]], 2)
    halved = Movement(before, after, [load("replica-2", 4 * MIB)])
    assert (halved.moved_slots, halved.moved_bytes) == (1, 2 * MIB)


def test_a_first_layout_moves_nothing_and_has_only_an_after() -> None:
    first = Movement(None, made([device(1), device(2)], [[1, 2]]), [load("replica-2", MIB)])
    (survival,) = first.survivals
    assert (first.moved_bytes, first.moved_slots, first.least_bytes) == (0, 0, 0)
    assert (survival.before, survival.during, survival.at_worst) == (None, None, None)
    assert survival.after == Losses(zones=0, racks=0, nodes=1, devices=1)
