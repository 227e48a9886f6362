"""A device: a directory on a disk, marked as ours, locked, with its volumes and a reserve of free space.

Layout of the directory:

    dwd-device.json    the marker: {"format": 1, "cluster", "device", "journal"} - without it nothing is ever written
    lock               flocked by the daemon that uses it
    volumes/           volume-0000000001 ...
    index.sqlite       a cache of the volumes, rebuilt when lost

Hazard: an unmounted disk leaves an empty directory behind. Writing there would fill the root disk and lose the data
once the mount comes back, so a missing marker means *failed*; only `format_device`, called on purpose, makes one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

import structlog

from dwd.base.clock import Clock, Rng
from dwd.base.errors import (
    AlreadyExists,
    Conflict,
    Corrupt,
    DwError,
    NoSpace,
    NotFound,
    StorageFailed,
    Unavailable,
    VersionRefused,
)
from dwd.base.ids import ID_BITS, BlockId, ClusterId, DeviceId, LayoutEpoch, hex_id, parse_hex_id
from dwd.blocks.fragments import CopyKey, Fetched, HeldFragment, PutFragment
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.volumes.index import FragmentIndex
from dwd.blocks.volumes.volumes import ALLOCATE_BYTES, VOLUME_BYTES, Volumes
from dwd.journal.frames import Position
from dwd.journal.segments import JOURNAL_ID_BYTES
from dwd.runtime.files import Files

MARKER = "dwd-device.json"
FORMAT = 1
RESERVE_SHARE = 0.05
"""Of the file system: below it clients' writes are refused."""
REPAIR_RESERVE_SHARE = 0.01
"""Below it repair's writes are refused too; deletions and compaction go on."""
REPAIRED_MAX = 1_000_000
"""Fragments written by repair that are remembered until the device is closed."""
SPACE_SECONDS = 1.0
"""How long a look at the free space is believed."""

_log = structlog.get_logger("dwd.blocks")


class DeviceState(Enum):
    OPEN = "open"
    FAILED = "failed"
    CLOSED = "closed"


class Lock(Protocol):
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    cluster: ClusterId
    device: DeviceId
    journal: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStats:
    device: DeviceId
    path: str
    state: DeviceState
    reason: str
    available_bytes: int
    total_bytes: int
    fragments: int
    live_bytes: int


def read_marker(files: Files, path: Path, cluster: ClusterId) -> Marker:
    """Raises StorageFailed blocks.device_missing (no directory or marker), Corrupt, VersionRefused (other cluster)."""
    if not files.exists(path / MARKER):
        raise StorageFailed(
            "blocks.device_missing",
            f"{path} holds no {MARKER}: not mounted, or never formatted",
            hint="mount the disk; to use an empty directory as a new device, let the node adopt it",
        )
    try:
        raw = json.loads(files.read(path / MARKER))
        marker = Marker(
            cluster=ClusterId(raw["cluster"]), device=DeviceId(parse_hex_id(raw["device"])),
            journal=bytes.fromhex(raw["journal"]),
        )  # fmt: skip
        version = int(raw["format"])
    except (ValueError, KeyError, TypeError, DwError) as error:
        raise Corrupt("blocks.device_marker", f"{path / MARKER} cannot be read") from error
    if version > FORMAT:
        raise VersionRefused("blocks.device_format", f"{path} has format {version}, this daemon reads up to {FORMAT}")
    if marker.cluster != cluster:
        raise VersionRefused(
            "blocks.device_cluster",
            f"{path} belongs to cluster {marker.cluster}, this node to {cluster}",
            hint="check the device path, or empty the directory if its data is not needed",
        )
    return marker


def format_device(files: Files, path: Path, cluster: ClusterId, rng: Rng) -> Marker:
    """Make an empty (or new) directory a device of a new id. Raises AlreadyExists: there is something in it."""
    if files.exists(path) and [name for name in files.list(path) if name != "lost+found"]:
        raise AlreadyExists("blocks.device_not_empty", f"{path} is not empty", hint="choose an empty directory")
    marker = Marker(
        cluster=cluster, device=DeviceId(rng.bits(ID_BITS) or 1), journal=rng.token_bytes(JOURNAL_ID_BYTES)
    )  # fmt: skip
    files.make_directory(path / "volumes")
    files.sync_directory(path)
    content = {
        "format": FORMAT, "cluster": cluster, "device": hex_id(marker.device), "journal": marker.journal.hex()
    }  # fmt: skip
    files.write_durably(path / MARKER, json.dumps(content).encode())
    return marker


class _FileLock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)


def lock_directory(path: Path) -> Lock:
    """Raises Conflict blocks.device_locked, StorageFailed."""
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed("blocks.device_lock", f"{path} cannot be locked: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Conflict("blocks.device_locked", f"{path} is in use by another daemon") from error
    return _FileLock(descriptor)


class Device:
    """Owned by one event loop. `on_failed(device, error)` is called once, when it is taken out of service."""

    def __init__(
        self,
        *,
        files: Files,
        path: Path,
        marker: Marker,
        pool: Executor,
        clock: Clock,
        on_failed: Callable[[DeviceId, DwError], None],
        lock: Callable[[Path], Lock] = lock_directory,
        index_path: str | None = None,
        vfs: str = "",
        volume_bytes: int = VOLUME_BYTES,
        allocate_bytes: int = ALLOCATE_BYTES,
        reserve_share: float = RESERVE_SHARE,
    ) -> None:
        self.id = marker.device
        self.path = path
        self.state = DeviceState.CLOSED
        self.reason = ""
        self.lost_places = 0
        """Where opening found fragments damaged, and 1 for an index that had to be made anew."""
        self._files, self._marker, self._pool, self._clock = files, marker, pool, clock
        self._on_failed, self._lock_with = on_failed, lock
        self._index_path, self._vfs = index_path or str(path / "index.sqlite"), vfs
        self._sizes = (volume_bytes, allocate_bytes)
        self._reserve, self._repair_reserve = reserve_share, min(reserve_share, REPAIR_RESERVE_SHARE)
        self._lock: Lock | None = None
        self._volumes: Volumes | None = None
        self._space: tuple[int, int] = (0, 0)
        self._space_at = float("-inf")
        self._fence = LayoutEpoch(0)
        self._repaired: set[FragmentKey] = set()

    async def open(self) -> None:
        """Raises Conflict (locked), StorageFailed, VersionRefused, Corrupt."""
        loop = asyncio.get_running_loop()
        self._lock = await loop.run_in_executor(self._pool, self._lock_with, self.path)
        try:
            index = await loop.run_in_executor(self._pool, self._open_index)
            volumes = Volumes(
                files=self._files, directory=self.path / "volumes", journal=self._marker.journal, index=index,
                pool=self._pool, volume_bytes=self._sizes[0], allocate_bytes=self._sizes[1],
            )  # fmt: skip
            found = await volumes.open(hex_id(self.id), self._fail)
        except BaseException:
            self._unlock()
            raise
        self._volumes, self.state = volumes, DeviceState.OPEN
        self.lost_places = found.damaged + found.from_nothing
        _log.info("device open", device=hex_id(self.id), path=str(self.path), batches_scanned=found.scanned_batches,
                  damaged=found.damaged)  # fmt: skip

    @property
    def volumes(self) -> Volumes:
        """Raises StorageFailed once the device is out of service."""
        if self._volumes is None or self.state is not DeviceState.OPEN:
            raise StorageFailed(
                "blocks.device_failed", f"device {hex_id(self.id)} is {self.state.value}: {self.reason}"
            )
        return self._volumes

    def fence(self, epoch: LayoutEpoch) -> None:
        """Refuse writes placed by layouts below `epoch` from now on."""
        self._fence = max(self._fence, epoch)

    async def put(self, fragments: Sequence[PutFragment]) -> None:
        """All durable on return. Raises NoSpace, Conflict blocks.layout_fenced, Busy, StorageFailed."""
        volumes = self.volumes
        await self._require_space(repair=all(f.repair for f in fragments))
        if any(f.layout_epoch < self._fence for f in fragments):
            raise Conflict("blocks.layout_fenced", f"layout is older than {self._fence}", fence=self._fence)
        for fragment in fragments:
            if fragment.repair and len(self._repaired) < REPAIRED_MAX:
                self._repaired.add(fragment.key)
        _ = await self._guarded(volumes.put([(f.key, f.head, f.content) for f in fragments]))

    async def get(self, key: FragmentKey, offset: int, length: int) -> Fetched:
        try:
            head, content = await self.volumes.read(key, offset, length)
        except StorageFailed as error:
            self._fail(error)
            raise
        return Fetched(head=head, content=content)

    async def delete(self, keys: Sequence[FragmentKey]) -> None:
        _ = await self._guarded(self.volumes.delete(keys))

    async def delete_copies(self, copies: Sequence[CopyKey]) -> None:
        """As Fragments.delete_copies."""
        try:
            await self.volumes.delete_copies([(copy.key, copy.copy) for copy in copies])
        except StorageFailed as error:
            self._fail(error)
            raise

    async def delete_leftovers(self, keys: Sequence[FragmentKey]) -> None:
        """As Fragments.delete_leftovers. Once more was repaired than is remembered, nothing is certain any more: then
        what a write left behind is an orphan.
        """
        if len(self._repaired) < REPAIRED_MAX:
            await self.delete([key for key in keys if key not in self._repaired])

    async def held(self, blocks: Sequence[BlockId], *, verify: bool) -> tuple[HeldFragment, ...]:
        volumes = self.volumes
        found = [
            HeldFragment(key=FragmentKey(block, index), length=place.length, copy=place.copy)
            for block, indexes in zip(blocks, await volumes.of_blocks(blocks), strict=True)
            for index, place in indexes
        ]
        return tuple([await self._verified(held) for held in found]) if verify else tuple(found)

    async def stats(self) -> DeviceStats:
        fragments = live = 0
        if self.state is DeviceState.OPEN:
            await self._look_at_space()
            volumes = self.volumes
            if not volumes.maintenance.locked():  # else a compaction has it for long; the figures may be a little old
                await volumes.flush()
            by_volume = await volumes.run(volumes.index.live)
            fragments, live = sum(n for n, _ in by_volume.values()), sum(b for _, b in by_volume.values())
        return DeviceStats(
            device=self.id, path=str(self.path), state=self.state, reason=self.reason,
            available_bytes=self._space[0], total_bytes=self._space[1], fragments=fragments, live_bytes=live,
        )  # fmt: skip

    async def close(self) -> None:
        if self._volumes is not None:
            if self.state is DeviceState.OPEN:
                self.state = DeviceState.CLOSED
            volumes, self._volumes = self._volumes, None
            await volumes.close()
        self._unlock()

    async def _verified(self, held: HeldFragment) -> HeldFragment:
        try:
            await self.get(held.key, 0, held.length)
        except (Corrupt, NotFound):
            return replace(held, sound=False)
        return replace(held, sound=True)

    async def _guarded(self, work: asyncio.Future[Sequence[Position]]) -> Sequence[Position]:
        """The outcome of an append; an I/O error takes the device out of service."""
        try:
            return await work
        except NoSpace:
            self._space_at = float("-inf")
            raise
        except StorageFailed as error:
            self._fail(error)
            raise

    async def _require_space(self, *, repair: bool) -> None:
        await self._look_at_space()
        available, total = self._space
        if available < total * (self._repair_reserve if repair else self._reserve):
            raise NoSpace(
                "blocks.device_full", f"device {hex_id(self.id)} reached its reserve", available_bytes=available
            )

    async def _look_at_space(self) -> None:
        now = self._clock.monotonic()
        if now - self._space_at >= SPACE_SECONDS:
            self._space_at = now
            try:
                self._space = await self.volumes.run(lambda: self._files.free_bytes(self.path))
            except StorageFailed as error:
                self._fail(error)
                raise

    def _fail(self, error: DwError) -> None:
        if self.state is not DeviceState.OPEN:
            return
        self.state, self.reason = DeviceState.FAILED, str(error)
        _log.error("device taken out of service", device=hex_id(self.id), path=str(self.path), reason=self.reason)
        self._on_failed(self.id, error)

    def _open_index(self) -> FragmentIndex:
        try:
            return FragmentIndex(self._index_path, self._marker.journal, vfs=self._vfs)
        except StorageFailed:
            _log.warning("fragment index is damaged and will be rebuilt", device=hex_id(self.id))
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(self._index_path + suffix).unlink()
            return FragmentIndex(self._index_path, self._marker.journal, vfs=self._vfs)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def unavailable(device: DeviceId) -> Unavailable:
    return Unavailable("blocks.device_not_here", f"device {hex_id(device)} is not on this node")
