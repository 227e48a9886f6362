"""Laws of layouts, for clusters of any shape: spread, balance, least movement, determinism, and their encoded form."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwd.base.errors import Corrupt, InvalidArgument, VersionRefused
from dwd.base.ids import BlockId, DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core.layout import (
    LAYOUT_BYTES_MAX,
    Layout,
    LayoutDevice,
    decode_layout,
    encode_layout,
    encoded_bytes,
    pack_slots,
)
from dwd.blocks.core.movement import Load, Movement
from dwd.blocks.core.placement import partitions_for, plan_layout
from dwd.blocks.core.profiles import parse_profile

EPOCH = LayoutEpoch(1)
GOLDEN = Path(__file__).parent / "golden"
RS_4_2 = Load(profile=parse_profile("rs-4-2"), data_bytes=0)


def cluster(
    nodes: int, zones: int = 1, per_node: int = 1, weights: Sequence[int] = (100,), racks: int = 1
) -> list[LayoutDevice]:
    return [
        LayoutDevice(
            device=DeviceId(1_000 + i * 7), node=NodeId(i // per_node + 1), weight=weights[i % len(weights)],
            zone=f"zone-{(i // per_node) % zones}", rack=f"rack-{(i // per_node) % (racks * zones)}",
        )
        for i in range(nodes * per_node)
    ]  # fmt: skip


def must(capacities: Sequence[int], slots: int) -> int:
    """The least that the fullest of these domains holds."""
    level = 0
    while sum(min(level, c) for c in capacities) < min(slots, sum(capacities)):
        level += 1
    return level


def check_spread(layout: Layout) -> None:
    """Every prefix, every level: nobody below a domain holds more of what the domain holds than it must."""
    capacity, children = Counter[tuple[object, ...]](), dict[tuple[object, ...], set[tuple[object, ...]]]()
    paths = {}
    for d in layout.devices:
        names = (d.zone, d.rack, d.node, d.device)
        paths[d.device] = [names[:depth] for depth in range(len(names) + 1)]
        capacity.update(paths[d.device])
        for parent, child in zip(paths[d.device], paths[d.device][1:], strict=False):
            children.setdefault(parent, set()).add(child)
    checked = set()
    for partition in range(layout.partitions):
        devices = layout.device_list(partition)
        assert len(set(devices)) == len(devices) == min(26, len(layout.devices))
        held = Counter[tuple[object, ...]]()
        for device in devices:
            held.update(paths[device])
            for parent in paths[device][:-1]:
                state = (parent, held[parent], max(held[child] for child in children[parent]))
                if state not in checked:
                    checked.add(state)
                    assert state[2] <= must([capacity[c] for c in children[parent]], held[parent])


@settings(max_examples=20, deadline=None)
@given(
    nodes=st.integers(1, 40),
    zones=st.integers(1, 5),
    per_node=st.integers(1, 3),
    weights=st.lists(st.integers(1, 1_000), min_size=1, max_size=5),
    racks=st.integers(1, 3),
    gone=st.integers(0, 39),
)
def test_no_domain_holds_more_than_it_must_for_any_prefix(
    nodes: int, zones: int, per_node: int, weights: list[int], racks: int, gone: int
) -> None:
    devices = cluster(nodes, zones, per_node, weights, racks)
    first = plan_layout(devices, epoch=EPOCH, partitions=32)
    check_spread(first)
    fewer = [d for d in devices if d.node != gone % nodes + 1] or devices
    check_spread(plan_layout(fewer, epoch=LayoutEpoch(2), previous=first, partitions=32))


def check_balance(layout: Layout, fragments: int) -> None:
    total = sum(d.weight for d in layout.devices)
    held = layout.slots_held(fragments)
    for device in layout.devices:
        share = layout.partitions * fragments * device.weight / total
        if share >= 100:
            assert abs(held[device.device] - share) <= 0.02 * share


@pytest.mark.parametrize(
    ("nodes", "zones", "per_node", "weights"),
    [
        (1, 1, 1, (1,)),
        (2, 1, 1, (5,)),
        (6, 1, 1, (100,)),
        (6, 3, 1, (100,)),
        (7, 1, 1, (100,)),
        (12, 3, 1, (100,)),
        (12, 1, 2, (50, 100)),
        (15, 3, 1, (100, 120, 140, 90, 100)),
        (60, 3, 1, (100,)),
        (100, 5, 1, (100,)),
    ],
)
def test_shares_follow_weights_within_two_percent_from_a_hundred_slots(
    nodes: int, zones: int, per_node: int, weights: tuple[int, ...]
) -> None:
    layout = plan_layout(cluster(nodes, zones, per_node, weights), epoch=EPOCH)
    for fragments in (3, 6):
        check_balance(layout, fragments)


def test_a_change_keeps_the_shares_within_two_percent() -> None:
    devices = cluster(9, 3)
    layout = plan_layout(devices, epoch=EPOCH)
    for epoch, members in enumerate(
        (devices[1:], devices[2:8], devices, [replace(devices[0], weight=120), *devices[1:]])
    ):
        layout = plan_layout(members, epoch=LayoutEpoch(epoch + 2), previous=layout)
        check_spread(layout)
    zone = sum(d.weight for d in layout.devices if d.zone == "zone-0")
    held, slots = layout.slots_held(6), 1_024 * 2
    for device in layout.devices:
        share = slots * device.weight / (zone if device.zone == "zone-0" else 300)
        assert abs(held[device.device] - share) <= 0.02 * share, "two of six fragments lie in each of three zones"


@pytest.mark.parametrize("seed", range(6))
def test_shares_stay_within_bounds_when_weights_are_uneven(seed: int) -> None:
    """With one zone, nothing but a device's weight and the width of the profile bounds its share."""
    weights = [100 + (seed * 37 + i * 53) % 90 for i in range(11)]
    layout = plan_layout(cluster(12 + seed, weights=weights), epoch=EPOCH, held_for=(6,))
    check_balance(layout, 6)


def test_the_same_devices_give_the_same_layout_in_any_order() -> None:
    devices = cluster(9, 3)
    first = plan_layout(devices, epoch=EPOCH)
    assert first == plan_layout(devices[::-1], epoch=EPOCH)
    grown = cluster(10, 3)
    again = plan_layout(grown, epoch=LayoutEpoch(2), previous=first)
    assert again == plan_layout(grown[::-1], epoch=LayoutEpoch(2), previous=decode_layout(encode_layout(first)))


MOVES = [
    # nodes, zones, devices a node; the most that moves, in multiples of the least that could
    (6, 1, 1, 1.1),
    (6, 6, 1, 1.1),
    (9, 3, 1, 1.1),
    (9, 3, 2, 1.25),
    (30, 3, 1, 1.25),
    (40, 1, 1, 1.5),
]


@pytest.mark.parametrize(("nodes", "zones", "per_node", "bound"), MOVES)
def test_little_more_than_the_least_moves(nodes: int, zones: int, per_node: int, bound: float) -> None:
    devices = cluster(nodes + 1, zones, per_node)
    fewer, lighter = devices[:-per_node], [replace(devices[0], weight=70), *devices[1:]]
    before = plan_layout(fewer, epoch=EPOCH, held_for=(6,))
    grown = plan_layout(devices, epoch=LayoutEpoch(2), previous=before, held_for=(6,))
    changes = [(before, grown)] + [
        (grown, plan_layout(members, epoch=LayoutEpoch(3), previous=grown, held_for=(6,)))
        for members in (devices[per_node:], devices[1:], lighter)
    ]
    for old, new in changes:
        check_spread(new)
        moved = Movement(old, new, [Load(profile=RS_4_2.profile, data_bytes=1 << 30)])
        assert moved.moved_bytes <= bound * moved.least_bytes


@pytest.mark.parametrize(("nodes", "per_node", "zones"), [(300, 2, 7), (1_000, 1, 1), (1_000, 1, 12)])
def test_large_clusters_are_spread_and_keep_what_they_have(nodes: int, per_node: int, zones: int) -> None:
    devices = cluster(nodes, zones, per_node, (100, 110, 120))
    before = plan_layout(devices, epoch=EPOCH, partitions=128, held_for=(6,))
    fewer = devices[per_node:]
    after = plan_layout(fewer, epoch=LayoutEpoch(2), previous=before, partitions=128, held_for=(6,))
    check_spread(before)
    check_spread(after)
    moved = Movement(before, after, [RS_4_2])
    assert moved.moved_slots <= 0.02 * 128 * 6


def test_nothing_moves_when_nothing_changed() -> None:
    devices = cluster(11, 4, 2, (10, 20, 30))
    before = plan_layout(devices, epoch=EPOCH, held_for=(6,))
    after = plan_layout(devices, epoch=LayoutEpoch(2), previous=before, held_for=(6,))
    assert after.slots == before.slots


def test_a_node_that_goes_and_comes_moves_its_share_each_time() -> None:
    devices = cluster(9, 3)
    first = plan_layout(devices, epoch=EPOCH, held_for=(6,))
    without = plan_layout(devices[1:], epoch=LayoutEpoch(2), previous=first, held_for=(6,))
    back = plan_layout(devices, epoch=LayoutEpoch(3), previous=without, held_for=(6,))
    for old, new in ((first, without), (without, back)):
        moved = Movement(old, new, [Load(profile=RS_4_2.profile, data_bytes=1 << 30)])
        assert moved.moved_bytes <= 1.1 * moved.least_bytes


@pytest.mark.parametrize(
    ("devices", "partitions"), [(6, 1_024), (61, 1_024), (62, 2_048), (250, 8_192), (1_000, 16_384)]
)
def test_partitions_are_halved_while_devices_have_fewer_than_a_hundred_slots(devices: int, partitions: int) -> None:
    table = cluster(devices, 5)
    assert partitions_for(table, 26) == partitions
    assert encoded_bytes(table, partitions, 26) <= LAYOUT_BYTES_MAX


def test_partitions_stay_when_the_cluster_shrinks_and_halving_alone_moves_nothing() -> None:
    devices = cluster(8)
    before = plan_layout(devices, epoch=EPOCH, partitions=1_024, held_for=(6,))
    halved = plan_layout(devices, epoch=LayoutEpoch(2), previous=before, partitions=2_048, held_for=(6,))
    assert partitions_for(devices, 8, present=4_096) == 4_096
    block = BlockId(bytes(8) + b"\xab\xcd" + bytes(6))
    assert halved.partition_of(block) // 2 == before.partition_of(block), "both epochs are readable"
    moved = Movement(before, halved, [RS_4_2])
    assert moved.moved_slots <= 0.01 * 2_048 * 6


def test_a_layout_is_refused_when_it_would_not_fit_a_command() -> None:
    with pytest.raises(InvalidArgument) as refused:
        partitions_for(cluster(1_000, 5), 26, present=65_536)
    assert refused.value.code == "blocks.layout_too_large"


@settings(max_examples=25, deadline=None)
@given(nodes=st.integers(1, 30), zones=st.integers(1, 4), per_node=st.integers(1, 12), epoch=st.integers(1, 2**40))
def test_a_layout_is_the_same_after_encoding_and_decoding(nodes: int, zones: int, per_node: int, epoch: int) -> None:
    layout = plan_layout(cluster(nodes, zones, per_node), epoch=LayoutEpoch(epoch), partitions=16)
    raw = encode_layout(layout)
    assert decode_layout(raw) == layout
    assert len(raw) == encoded_bytes(layout.devices, layout.partitions, layout.width)


@settings(max_examples=50, deadline=None)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_layout_is_refused_when_any_bit_is_flipped(at: int, bit: int) -> None:
    raw = bytearray(encode_layout(plan_layout(cluster(6), epoch=EPOCH, partitions=64)))
    raw[at % len(raw)] ^= 1 << bit
    with pytest.raises((Corrupt, VersionRefused)):
        decode_layout(bytes(raw))


@settings(max_examples=50, deadline=None)
@given(cut=st.integers(1, 400))
def test_a_layout_is_refused_when_it_is_cut_short_with_a_sound_checksum(cut: int) -> None:
    raw = encode_layout(plan_layout(cluster(6), epoch=EPOCH, partitions=32))[:-4]
    body = raw[: max(0, len(raw) - cut)]
    with pytest.raises(Corrupt):
        decode_layout(body + zlib.crc32(body).to_bytes(4))


@pytest.mark.parametrize("version", [1, 2])
def test_golden_layouts_are_read_and_the_newest_is_written_as_it_was(version: int) -> None:
    raw = bytes.fromhex((GOLDEN / f"layout-{version}.hex").read_text())
    devices = [
        LayoutDevice(device=DeviceId(n), node=NodeId(n // 2), weight=n, zone=f"z{n % 3}", rack="r" if n % 2 else "")
        for n in (2, 3, 5)
    ]
    slots = [(p + r * (p + 1)) % 3 for p in range(4) for r in range(2)]
    expected = Layout(epoch=LayoutEpoch(7), partitions=4, width=2, devices=tuple(devices), slots=pack_slots([slots]))
    assert decode_layout(raw) == expected
    if version == 2:
        assert encode_layout(expected) == raw


def test_fragments_double_up_when_there_are_fewer_devices() -> None:
    layout = plan_layout(cluster(3), epoch=EPOCH, partitions=64)
    block = BlockId(bytes(8) + b"\xff\xff" + bytes(6))
    assert layout.partition_of(block) == 63
    assert sorted(Counter(layout.places(block, 6)).values()) == [2, 2, 2]
