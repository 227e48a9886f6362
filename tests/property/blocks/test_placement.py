"""Laws of layouts, for clusters of any shape."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwd.base.errors import Corrupt, VersionRefused
from dwd.base.ids import BlockId, DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core.layout import Layout, LayoutDevice, decode_layout, encode_layout
from dwd.blocks.core.placement import moved_slots, plan_layout

EPOCH = LayoutEpoch(1)


def cluster(
    nodes: int, zones: int = 1, per_node: int = 1, weights: tuple[int, ...] = (100,), racks: int = 1
) -> list[LayoutDevice]:
    return [
        LayoutDevice(
            device=DeviceId(1_000 + i * 7), node=NodeId(i // per_node + 1), weight=weights[i % len(weights)],
            zone=f"zone-{(i // per_node) % zones}", rack=f"rack-{(i // per_node) % (racks * zones)}",
        )
        for i in range(nodes * per_node)
    ]  # fmt: skip


def must(capacities: list[int], slots: int) -> int:
    level = 0
    while sum(min(level, c) for c in capacities) < slots:
        level += 1
    return level


def check_spread(layout: Layout) -> None:
    zones = {d.device: d.zone for d in layout.devices}
    nodes = {d.device: d.node for d in layout.devices}
    zone_capacities = list(Counter(zones.values()).values())
    for partition in range(layout.partitions):
        devices = layout.device_list(partition)
        assert len(set(devices)) == len(devices) == min(26, len(layout.devices))
        for prefix in range(1, len(devices) + 1):
            held = Counter(zones[d] for d in devices[:prefix])
            assert max(held.values()) <= must(zone_capacities, prefix)
            for zone, count in held.items():
                in_zone = Counter(nodes[d] for d in devices[:prefix] if zones[d] == zone)
                per_node = list(Counter(n for d, n in nodes.items() if zones[d] == zone).values())
                racks = len({d.rack for d in layout.devices if d.zone == zone})
                if racks == 1:
                    assert max(in_zone.values()) <= must(per_node, count)


@settings(max_examples=25, deadline=None)
@given(
    nodes=st.integers(1, 40),
    zones=st.integers(1, 5),
    per_node=st.integers(1, 3),
    weights=st.lists(st.integers(1, 1_000), min_size=1, max_size=5).map(tuple),
    racks=st.integers(1, 3),
)
def test_no_domain_holds_more_than_it_must_for_any_prefix(
    nodes: int, zones: int, per_node: int, weights: tuple[int, ...], racks: int
) -> None:
    check_spread(plan_layout(cluster(nodes, zones, per_node, weights, racks), epoch=EPOCH, partitions=32))


@pytest.mark.parametrize(("nodes", "zones"), [(1, 1), (2, 1), (6, 1), (6, 3), (7, 1), (12, 3), (200, 5)])
def test_shares_follow_weights_within_two_percent_from_a_hundred_slots(nodes: int, zones: int) -> None:
    devices = cluster(nodes, zones)
    layout = plan_layout(devices, epoch=EPOCH)
    total = sum(d.weight for d in devices)
    for fragments in (3, 6):
        held = Counter(d for p in range(1_024) for d in layout.device_list(p)[:fragments])
        for device in devices:
            share = 1_024 * min(fragments, nodes) * device.weight / total
            if share >= 100:
                assert abs(held[device.device] - share) <= max(1.0, 0.02 * share)


def test_the_same_devices_give_the_same_layout_in_any_order() -> None:
    devices = cluster(9, 3)
    assert plan_layout(devices, epoch=EPOCH) == plan_layout(devices[::-1], epoch=EPOCH)


@pytest.mark.parametrize("nodes", [6, 9, 12])
def test_little_more_than_the_least_moves_when_a_node_comes_or_goes(nodes: int) -> None:
    devices = cluster(nodes + 1)
    before = plan_layout(devices[:-1], epoch=EPOCH)
    grown = plan_layout(devices, epoch=LayoutEpoch(2), previous=before)
    check_spread(grown)
    assert moved_slots(before, before, fragments=6) == 0
    least = 1_024 * 6 / (nodes + 1)
    assert moved_slots(before, grown, fragments=6) <= 2.0 * least
    shrunk = plan_layout(devices[1:], epoch=LayoutEpoch(3), previous=grown)
    assert moved_slots(grown, shrunk, fragments=6) <= 2.0 * least


@settings(max_examples=25, deadline=None)
@given(nodes=st.integers(1, 30), zones=st.integers(1, 4), epoch=st.integers(1, 2**40))
def test_a_layout_is_the_same_after_encoding_and_decoding(nodes: int, zones: int, epoch: int) -> None:
    layout = plan_layout(cluster(nodes, zones), epoch=LayoutEpoch(epoch), partitions=64)
    assert decode_layout(encode_layout(layout)) == layout


@settings(max_examples=50, deadline=None)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_layout_is_refused_when_any_bit_is_flipped(at: int, bit: int) -> None:
    raw = bytearray(encode_layout(plan_layout(cluster(6), epoch=EPOCH, partitions=64)))
    raw[at % len(raw)] ^= 1 << bit
    with pytest.raises((Corrupt, VersionRefused)):
        decode_layout(bytes(raw))


def test_fragments_double_up_when_there_are_fewer_devices() -> None:
    layout = plan_layout(cluster(3), epoch=EPOCH, partitions=64)
    block = BlockId(bytes(8) + b"\xff\xff" + bytes(6))
    assert layout.partition_of(block) == 63
    assert sorted(Counter(layout.places(block, 6)).values()) == [2, 2, 2]
