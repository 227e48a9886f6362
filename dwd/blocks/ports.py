"""What `dwd.objects` knows of the block store, and what a stored block's row says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dwd.base.ids import BlockId, DeviceId, LayoutEpoch
from dwd.runtime.files import Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose data a block is; written beside every fragment so that the volumes alone can tell."""

    bucket: str
    key: str


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


class BlockStore(Protocol):
    """Blocks of up to BLOCK_BYTES over all devices of the region."""

    async def write(self, data: Buffer, *, profile: str, owner: Owner, deadline: float) -> StoredBlock:
        """Returns once every fragment is fsynced on a device. `deadline` in seconds of the monotonic clock.
        Raises Busy (no placement survives one more loss), Unavailable, NoSpace, DeadlineExceeded.
        """
        ...

    async def read(
        self, block: StoredBlock, *, owner: Owner, offset: int, length: int, deadline: float
    ) -> list[memoryview]:
        """Verified bytes [offset, offset+length) in pieces. Raises Unavailable, Corrupt, DeadlineExceeded."""
        ...
