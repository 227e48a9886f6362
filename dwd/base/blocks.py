"""The row that makes a block exist: shared by metadata, which stores it, and the block store, which reads and writes
the fragments it speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.ids import BlockId, DeviceId, LayoutEpoch

PLACEMENT_FIRST = 8
"""Bytes [8, 10) of a block id are its 16 placement bits, big-endian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff:
    """Fragment `index` lives on `device` instead of where the layout puts it."""

    index: int
    device: DeviceId


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """The row that makes a block exist. `profile` is the scheme really used ("rs-4-2", "replica-3"); `length` and
    `crc32c` are of the bytes that were coded into fragments; `missing` lists fragment indexes that are nowhere yet;
    `wanted` is the scheme it should have been stored as, where too few devices were up for that (empty: it is what it
    should be).
    """

    block: BlockId
    profile: str
    length: int
    crc32c: int
    layout_epoch: LayoutEpoch
    handoffs: tuple[Handoff, ...] = ()
    missing: tuple[int, ...] = ()
    plain: int = 0
    """Bytes of the object that these are, where `packing` made them another number; else 0."""
    packing: int = 0
    """How the object's bytes became the block's: opaque here (dwd.objects.core.packing), 0 for as they are."""
    wanted: str = ""

    @property
    def plain_length(self) -> int:
        """Bytes of the object in this block."""
        return self.plain if self.packing else self.length

    @property
    def needs_repair(self) -> bool:
        """Fragments are away or on loan."""
        return bool(self.handoffs or self.missing)

    @property
    def not_as_wanted(self) -> bool:
        """Something is to be done before it survives what was promised."""
        return bool(self.handoffs or self.missing or self.wanted)


def placement_of(block: BlockId) -> int:
    """The 16 placement bits of a block id."""
    return int.from_bytes(block[PLACEMENT_FIRST : PLACEMENT_FIRST + 2])
