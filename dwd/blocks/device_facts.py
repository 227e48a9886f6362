"""What a device is told and what it tells of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dwd.base.ids import DeviceId
from dwd.blocks.marker import Lock, lock_directory
from dwd.blocks.volumes.volumes import ALLOCATE_BYTES, VOLUME_BYTES

RESERVE_SHARE = 0.05
"""Of the file system: below it clients' writes are refused."""


class DeviceState(Enum):
    OPEN = "open"
    READ_ONLY = "read_only"
    REBUILDING = "rebuilding"
    """Its index is being made from its volumes."""
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStats:
    device: DeviceId
    path: str
    state: DeviceState
    reason: str
    available_bytes: int
    total_bytes: int
    reserve_bytes: int
    """Of the free ones, kept from clients."""
    fragments: int
    live_bytes: int
    errors: int
    """Since the daemon started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """`scratch`: where the index of a read-only device is copied to. `vfs`: as of FragmentIndex."""

    scratch: Path | None = None
    vfs: str = ""
    volume_bytes: int = VOLUME_BYTES
    allocate_bytes: int = ALLOCATE_BYTES
    reserve_share: float = RESERVE_SHARE
    lock: Callable[[Path], Lock] = lock_directory
