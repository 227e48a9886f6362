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
    `crc32c` are of the whole plain block; `missing` lists fragment indexes that are nowhere yet.
    """

    block: BlockId
    profile: str
    length: int
    crc32c: int
    layout_epoch: LayoutEpoch
    handoffs: tuple[Handoff, ...] = ()
    missing: tuple[int, ...] = ()

    @property
    def needs_repair(self) -> bool:
        return bool(self.handoffs or self.missing)


def placement_of(block: BlockId) -> int:
    """The 16 placement bits of a block id."""
    return int.from_bytes(block[PLACEMENT_FIRST : PLACEMENT_FIRST + 2])
