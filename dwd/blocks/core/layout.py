"""A layout: which devices hold the blocks of each partition. Versioned by epoch, pure data, compact on the wire.

The first two random bytes of a block's id are its placement bits. A layout cuts their range into equal partitions
(1,024 at first; halved later as the cluster grows) and names for each an ordered list of devices: fragment i of a
block lives on device i of its partition's list. Every prefix of a list is spread over failure domains as well as the
cluster allows, so one list serves profiles of any width, and what follows the fragments is where hand-offs go first.
With fewer devices than fragments the list is walked again: devices hold two.

Encoded form (big-endian), version 1:

    [magic "DWLY"][version u8][epoch u64][partitions u32][width u8][devices u16]
    devices x { [device u64][node u64][weight u32][zone: u8 length, UTF-8][rack: u8 length, UTF-8] }
    partitions x width x [index into the device table u16]
    [crc32 u32 of all before]

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

PARTITIONS_DEFAULT = 1_024
PLACEMENT_BITS = 16
WIDTH_MAX = 32
DEVICES_MAX = 65_535

_MAGIC = b"DWLY"
_VERSION = 1
_HEAD = struct.Struct(">4sBQIBH")
_DEVICE = struct.Struct(">QQI")
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
    parts = [_HEAD.pack(_MAGIC, _VERSION, layout.epoch, layout.partitions, layout.width, len(layout.devices))]
    for device in layout.devices:
        parts.append(_DEVICE.pack(device.device, device.node, device.weight))
        for name in (device.zone, device.rack):
            raw = name.encode()
            parts.append(bytes((len(raw),)) + raw)
    slots = array("H", layout.slots)
    if byteorder == "little":
        slots.byteswap()
    parts.append(slots.tobytes())
    body = b"".join(parts)
    return body + _CRC.pack(zlib.crc32(body))


def decode_layout(raw: bytes) -> Layout:
    """The inverse of `encode_layout`. Raises Corrupt, VersionRefused."""
    if len(raw) < _HEAD.size + _CRC.size or zlib.crc32(raw[: -_CRC.size]) != _CRC.unpack(raw[-_CRC.size :])[0]:
        raise Corrupt("blocks.layout_corrupt", "layout fails its checksum")
    magic, version, epoch, partitions, width, count = _HEAD.unpack_from(raw)
    if magic != _MAGIC:
        raise Corrupt("blocks.layout_corrupt", "not a layout")
    if version != _VERSION:
        raise VersionRefused("blocks.layout_version", f"layout of version {version}", version=version)
    at, devices = _HEAD.size, []
    for _ in range(count):
        device, node, weight = _DEVICE.unpack_from(raw, at)
        at += _DEVICE.size
        names = []
        for _ in range(2):
            length = raw[at]
            names.append(raw[at + 1 : at + 1 + length].decode())
            at += 1 + length
        devices.append(
            LayoutDevice(device=DeviceId(device), node=NodeId(node), weight=weight, zone=names[0], rack=names[1])
        )
    slots = array("H")
    slots.frombytes(raw[at : at + partitions * width * 2])
    if byteorder == "little":
        slots.byteswap()
    return Layout(
        epoch=LayoutEpoch(epoch), partitions=partitions, width=width, devices=tuple(devices), slots=slots
    )  # fmt: skip
