"""A layout: which devices hold the blocks of each partition. Versioned by epoch, pure data, compact on the wire.

The first two random bytes of a block's id are its placement bits. A layout cuts their range into equal partitions
(1,024 at first; halved later as the cluster grows) and names for each an ordered list of devices: fragment i of a
block lives on device i of its partition's list. Every prefix of a list is spread over failure domains as well as the
cluster allows, so one list serves profiles of any width, and what follows the fragments is where hand-offs go first.
With fewer devices than fragments the list is walked again: devices hold two.

Encoded form (big-endian), version 2:

    [magic "DWLY"][version u8][epoch u64][partitions u32][width u8][devices u16][places u16]
    places x { [node u64][zone: u8 length, UTF-8][rack: u8 length, UTF-8] }
    devices x { [device u64][weight u32][index into the places u16] }
    partitions x width x [index into the device table: u8 up to 256 devices, else u16]
    [crc32 u32 of all before]

Version 1 had no places (each device carried node, zone and rack) and indexes of 16 bits; it is still read.

Invariants: a list never names a device twice; all lists are `width` long; the table is sorted by device id.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sys import byteorder

from dwd.base.errors import Corrupt, InvariantViolation, VersionRefused
from dwd.base.ids import BlockId, DeviceId, LayoutEpoch, NodeId
from dwd.base.limits import COMMAND_BYTES_MAX
from dwd.base.units import KIB

PARTITIONS_DEFAULT = 1_024
PLACEMENT_BITS = 16
WIDTH_MAX = 32
DEVICES_MAX = 65_535

_MAGIC = b"DWLY"
LAYOUT_BYTES_MAX = COMMAND_BYTES_MAX - 64 * KIB
"""Encoded: a layout rides in one command."""

_VERSION = 2
_HEAD = struct.Struct(">4sBQIBH")
_PLACES = struct.Struct(">H")
_PLACE = struct.Struct(">Q")
_DEVICE = struct.Struct(">QIH")
_DEVICE_1 = struct.Struct(">QQI")
_BYTE_INDEXES = 256
"""So many devices are told apart by one byte."""
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutDevice:
    """A device as placement sees it. `weight` is any positive number proportional to what it should hold (GiB)."""

    device: DeviceId
    node: NodeId
    weight: int
    zone: str = ""
    rack: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`slots[p * width + i]` is the index in `devices` of the device that holds fragment i of partition p."""

    epoch: LayoutEpoch
    partitions: int
    width: int
    devices: tuple[LayoutDevice, ...]
    slots: array[int] = field(repr=False)

    def __post_init__(self) -> None:
        fits = 0 < self.partitions <= 1 << PLACEMENT_BITS and self.partitions & (self.partitions - 1) == 0
        if not fits or len(self.slots) != self.partitions * self.width or not 0 < self.width <= WIDTH_MAX:
            raise InvariantViolation("layout of impossible shape", partitions=self.partitions, width=self.width)

    def partition_of(self, block: BlockId) -> int:
        return partition_of(block, self.partitions)

    def device_list(self, partition: int) -> tuple[DeviceId, ...]:
        """All devices of the partition in order: fragments first, then the preferred hand-off places."""
        start = partition * self.width
        return tuple(self.devices[i].device for i in self.slots[start : start + self.width])

    def slots_held(self, fragments: int) -> Mapping[DeviceId, int]:
        """How many fragments of all partitions each device holds, for a profile of so many."""
        held = Counter[int]()
        for rank in range(fragments):
            held.update(self.slots[rank % self.width :: self.width])
        return {device.device: held[index] for index, device in enumerate(self.devices)}

    def places(self, block: BlockId, fragments: int) -> tuple[DeviceId, ...]:
        """Where each fragment of the block belongs, doubled up when there are fewer devices than fragments."""
        start = self.partition_of(block) * self.width
        slots, devices, width = self.slots, self.devices, self.width
        return tuple(devices[slots[start + i % width]].device for i in range(fragments))


def partition_of(block: BlockId, partitions: int) -> int:
    """The partition of `partitions` (a power of two) the block falls in."""
    return (block[8] << 8 | block[9]) * partitions >> PLACEMENT_BITS


def pack_slots(lists: Sequence[Sequence[int]]) -> array[int]:
    return array("H", [index for row in lists for index in row])


def encode_layout(layout: Layout) -> bytes:
    """The compact form drawn above."""
    places = list(dict.fromkeys((d.node, d.zone, d.rack) for d in layout.devices))
    index = {place: number for number, place in enumerate(places)}
    parts = [
        _HEAD.pack(_MAGIC, _VERSION, layout.epoch, layout.partitions, layout.width, len(layout.devices)),
        _PLACES.pack(len(places)),
    ]
    for node, zone, rack in places:
        parts.append(_PLACE.pack(node) + _text(zone) + _text(rack))
    parts += [_DEVICE.pack(d.device, d.weight, index[d.node, d.zone, d.rack]) for d in layout.devices]
    parts.append(_slots_to_wire(layout.slots, len(layout.devices)))
    body = b"".join(parts)
    return body + _CRC.pack(zlib.crc32(body))


def encoded_bytes(devices: Sequence[LayoutDevice], partitions: int, width: int) -> int:
    """How long a layout of that shape is, encoded."""
    places = {(d.node, d.zone, d.rack) for d in devices}
    names = sum(_PLACE.size + len(_text(zone)) + len(_text(rack)) for _, zone, rack in places)
    table = _PLACES.size + names + _DEVICE.size * len(devices)
    return _HEAD.size + table + partitions * width * _index_bytes(len(devices)) + _CRC.size


def decode_layout(raw: bytes) -> Layout:
    """The inverse of `encode_layout`, also for version 1. Raises Corrupt, VersionRefused."""
    if len(raw) < _HEAD.size + _CRC.size or zlib.crc32(raw[: -_CRC.size]) != _CRC.unpack(raw[-_CRC.size :])[0]:
        raise Corrupt("blocks.layout_corrupt", "layout fails its checksum")
    magic, version, epoch, partitions, width, count = _HEAD.unpack_from(raw)
    if magic != _MAGIC:
        raise Corrupt("blocks.layout_corrupt", "not a layout")
    if version not in {1, _VERSION}:
        raise VersionRefused("blocks.layout_version", f"layout of version {version}", version=version)
    try:
        devices, at = (_devices_1 if version == 1 else _devices)(raw, count)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise Corrupt("blocks.layout_corrupt", "layout's table of devices is cut short") from None
    slots = _slots_from_wire(raw[at : -_CRC.size], 2 if version == 1 else _index_bytes(count))
    if len(slots) != partitions * width or (slots and max(slots) >= count):
        raise Corrupt("blocks.layout_corrupt", "layout's lists do not fit its table of devices")
    return Layout(epoch=LayoutEpoch(epoch), partitions=partitions, width=width, devices=devices, slots=slots)


def _devices(raw: bytes, count: int) -> tuple[tuple[LayoutDevice, ...], int]:
    at = _HEAD.size
    (number,) = _PLACES.unpack_from(raw, at)
    at += _PLACES.size
    places = []
    for _ in range(number):
        (node,) = _PLACE.unpack_from(raw, at)
        zone, at = _text_from(raw, at + _PLACE.size)
        rack, at = _text_from(raw, at)
        places.append((NodeId(node), zone, rack))
    found = []
    for _ in range(count):
        device, weight, index = _DEVICE.unpack_from(raw, at)
        at += _DEVICE.size
        node, zone, rack = places[index]
        found.append(LayoutDevice(device=DeviceId(device), node=node, weight=weight, zone=zone, rack=rack))
    return tuple(found), at


def _devices_1(raw: bytes, count: int) -> tuple[tuple[LayoutDevice, ...], int]:
    at, found = _HEAD.size, []
    for _ in range(count):
        device, node, weight = _DEVICE_1.unpack_from(raw, at)
        zone, at = _text_from(raw, at + _DEVICE_1.size)
        rack, at = _text_from(raw, at)
        found.append(LayoutDevice(device=DeviceId(device), node=NodeId(node), weight=weight, zone=zone, rack=rack))
    return tuple(found), at


def _text(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


def _text_from(raw: bytes, at: int) -> tuple[str, int]:
    length = raw[at]
    return raw[at + 1 : at + 1 + length].decode(), at + 1 + length


def _index_bytes(devices: int) -> int:
    return 1 if devices <= _BYTE_INDEXES else 2


def _slots_to_wire(slots: array[int], devices: int) -> bytes:
    made = array("B" if _index_bytes(devices) == 1 else "H", slots)
    if byteorder == "little":
        made.byteswap()
    return made.tobytes()


def _slots_from_wire(raw: bytes, index_bytes: int) -> array[int]:
    if len(raw) % index_bytes:
        raise Corrupt("blocks.layout_corrupt", "layout's lists are cut short")
    made = array("B" if index_bytes == 1 else "H")
    made.frombytes(raw)
    if byteorder == "little":
        made.byteswap()
    return array("H", made)
