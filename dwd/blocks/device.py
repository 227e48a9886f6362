"""A device: a directory on a disk, marked as ours, locked, with its volumes and a reserve of free space.

Layout of the directory:

    dwd-device.json    the marker (dwd.blocks.marker): without it nothing is ever written
    lock               flocked by the daemon that uses it
    volumes/           volume-0000000001 ...
    index.sqlite       a cache of the volumes, rebuilt when lost or damaged
    fence.json         which layouts are too old (dwd.blocks.fence)
    scrub.json         how far scrubbing came (dwd.blocks.scrub)

What goes wrong, and what then:

    a sync or a write fails            FAILED: nobody knows what the disk holds; nothing is written until a restart
    reads fail at READ_ERRORS_MAX places   FAILED; the fragments met before count as corrupt, and repair replaces them
    the marker is gone, or another's   FAILED, until the directory is back
    the file system takes no writes    READ_ONLY: reads go on
    the index is damaged               REBUILDING from the volumes, then OPEN again
    the disk is full                   writes are refused from the reserve on; reads, deletes, repair go on
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, Corrupt, DwError, NoSpace, NotFound, StorageFailed, Unavailable
from dwd.base.ids import BlockId, DeviceId, hex_id
from dwd.blocks.device_facts import DeviceOptions, DeviceState, DeviceStats
from dwd.blocks.device_index import IndexPlace
from dwd.blocks.fence import Fence
from dwd.blocks.fragments import CopyKey, Fetched, HeldFragment, PutFragment
from dwd.blocks.marker import Lock, Marker, read_marker
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.volumes.index import FragmentIndex, IndexDamaged
from dwd.blocks.volumes.volumes import Volumes
from dwd.observability import metrics
from dwd.runtime.files import Files

REPAIR_RESERVE_SHARE = 0.01
"""Below it repair's writes are refused too; deletions and compaction go on."""
REPAIRED_MAX = 1_000_000
"""Fragments written by repair that are remembered until the device is closed."""
SPACE_SECONDS = 1.0
"""How long a look at the free space and the marker is believed."""
READ_ERRORS_MAX = 3
"""Fragments that may prove unreadable before the device is taken out: one bad sector is no dead disk."""
CLOSE_SECONDS = 10.0
"""A disk that hangs must not keep the daemon from stopping."""

_ERRORS = metrics.counter("dwd.blocks.device_errors", "I/O errors of devices", "{error}")
_log = structlog.get_logger("dwd.blocks")

R = TypeVar("R")


class Device:
    """Owned by one event loop. `on_failed(device, error)` is called whenever it stops serving."""

    def __init__(
        self,
        *,
        files: Files,
        path: Path,
        marker: Marker,
        pool: Executor,
        clock: Clock,
        on_failed: Callable[[DeviceId, DwError], None],
        options: DeviceOptions | None = None,
    ) -> None:
        self.id = marker.device
        self.path = path
        self.files = files
        self.state = DeviceState.CLOSED
        self.reason = ""
        self.errors = 0
        self.lost_places = 0
        """Where opening found fragments damaged, and 1 for an index that had to be made anew."""
        self.active = 0
        """Reads and writes of clients and repair under way."""
        self.poisoned = False
        """A write or sync failed, or too many reads: the disk is not trusted again before a restart."""
        self._marker, self._pool, self._clock = marker, pool, clock
        self._on_failed = on_failed
        self._options = options = options or DeviceOptions()
        self._reserve, self._repair_reserve = options.reserve_share, min(options.reserve_share, REPAIR_RESERVE_SHARE)
        self._lock: Lock | None = None
        self._volumes: Volumes | None = None
        self._space: tuple[int, int] = (0, 0)
        self._looked_at = float("-inf")
        self._unreadable: set[FragmentKey] = set()
        self.fence = Fence(files, path)
        self._index_damaged = False
        self._repaired: set[FragmentKey] = set()

    async def open(self) -> None:
        """Raises Conflict (locked), StorageFailed, VersionRefused, Corrupt."""
        loop = asyncio.get_running_loop()
        self._lock = await loop.run_in_executor(self._pool, self._options.lock, self.path)
        try:
            await self._open_volumes()
        except BaseException:
            self._unlock()
            raise

    async def _open_volumes(self) -> None:
        loop = asyncio.get_running_loop()
        read_only = await loop.run_in_executor(self._pool, self.files.is_read_only, self.path)
        place = IndexPlace(self.path, self.id, self._marker.journal, self._options, read_only)
        if self._index_damaged:
            index, made = await loop.run_in_executor(self._pool, place.make_anew), True
        else:
            index, made = await loop.run_in_executor(self._pool, place.open)
        try:
            volumes = self._make_volumes(index, read_only=read_only)
            try:
                found = await volumes.open(hex_id(self.id), self._broken)
            except IndexDamaged:
                index.close()
                made = True
                index = await loop.run_in_executor(self._pool, place.make_anew)
                volumes = self._make_volumes(index, read_only=read_only)
                found = await volumes.open(hex_id(self.id), self._broken)
        except BaseException:
            index.close()
            raise
        await loop.run_in_executor(self._pool, self.fence.load)
        self._volumes, self._index_damaged = volumes, False
        self.state, self.reason = DeviceState.OPEN, ""
        if read_only:
            self.state, self.reason = DeviceState.READ_ONLY, "its file system is read-only"
        self.lost_places = found.damaged + (found.from_nothing or made)
        self._looked_at = float("-inf")
        _log.info("device open", device=hex_id(self.id), path=str(self.path), batches_scanned=found.scanned_batches,
                  damaged=found.damaged, read_only=read_only)  # fmt: skip

    @property
    def serves(self) -> bool:
        return self.state in {DeviceState.OPEN, DeviceState.READ_ONLY}

    @property
    def volumes(self) -> Volumes:
        """Raises StorageFailed once the device is out of service, Unavailable while it is being made to serve."""
        if self._volumes is None or not self.serves:
            kind = Unavailable if self.state is DeviceState.REBUILDING else StorageFailed
            raise kind("blocks.device_failed", f"device {hex_id(self.id)} is {self.state.value}: {self.reason}")
        return self._volumes

    async def put(self, fragments: Sequence[PutFragment]) -> None:
        """All durable on return. Raises NoSpace, Conflict blocks.layout_fenced, Busy, StorageFailed."""
        volumes = self._written()
        await self._require_space(repair=all(f.repair for f in fragments))
        self.fence.check(f.layout_epoch for f in fragments)
        for fragment in fragments:
            if fragment.repair and len(self._repaired) < REPAIRED_MAX:
                self._repaired.add(fragment.key)
        await self._appending(volumes.put([(f.key, f.head, f.content) for f in fragments]))

    async def get(self, key: FragmentKey, offset: int, length: int) -> Fetched:
        """Raises NotFound, Corrupt (also for a place that cannot be read), StorageFailed."""
        volumes = self.volumes
        self.active += 1
        try:
            head, content = await volumes.read(key, offset, length)
        except IndexDamaged:
            raise
        except StorageFailed as error:
            raise self.unreadable(key, error) from error
        finally:
            self.active -= 1
        return Fetched(head=head, content=content)

    def unreadable(self, key: FragmentKey, error: StorageFailed) -> DwError:
        """A fragment cannot be read: what to tell who asked for it. Too many, and the device is taken out."""
        self._count_error()
        self._unreadable.add(key)
        if len(self._unreadable) >= READ_ERRORS_MAX:
            self.poisoned = True
            self._fail(error)
            return error
        _log.warning("fragment cannot be read", device=hex_id(self.id), block=key.block.hex(), error=error.message)
        return Corrupt(
            "blocks.fragment_unreadable", f"fragment {key.index} of block {key.block.hex()}: {error.message}"
        )

    async def delete(self, keys: Sequence[FragmentKey]) -> None:
        await self._appending(self._written().delete(keys))

    async def delete_copies(self, copies: Sequence[CopyKey]) -> None:
        await self._appending(self._written().delete_copies([(copy.key, copy.copy) for copy in copies]))

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
        if self.serves:
            with contextlib.suppress(DwError):
                await self._look()
        if self.serves:
            volumes = self.volumes
            if self.state is DeviceState.OPEN and not volumes.maintenance.locked():  # else the figures are a bit old
                await volumes.flush()
            uses = await volumes.run(volumes.index.uses)
            fragments, live = sum(u.fragments for u in uses.values()), sum(u.bytes for u in uses.values())
        return DeviceStats(
            device=self.id, path=str(self.path), state=self.state, reason=self.reason,
            available_bytes=self._space[0], total_bytes=self._space[1],
            reserve_bytes=int(self._space[1] * self._reserve), fragments=fragments, live_bytes=live,
            errors=self.errors,
        )  # fmt: skip

    async def check(self) -> None:
        """Look whether the directory is still there and takes writes; the state says what was found."""
        if self.serves:
            self._looked_at = float("-inf")
            with contextlib.suppress(DwError):
                await self._look()
        elif self.poisoned and self.state is DeviceState.FAILED and self._volumes is not None:
            with contextlib.suppress(DwError):
                if await self.run(lambda: self.files.is_read_only(self.path)):
                    self.state, self.reason = DeviceState.READ_ONLY, f"{self.reason}; its file system became read-only"

    async def may_return(self) -> bool:
        """Whether `reopen` is worth trying: an index to rebuild, a directory that is back, a file system that takes
        writes again. Never raises.
        """
        if self.poisoned:
            return False
        match self.state:
            case DeviceState.REBUILDING:
                return True
            case DeviceState.FAILED | DeviceState.READ_ONLY:
                with contextlib.suppress(DwError):
                    return await self.run(self._is_well)
            case DeviceState.OPEN | DeviceState.CLOSED:
                pass
        return False

    def _is_well(self) -> bool:
        marked = read_marker(self.files, self.path, self._marker.cluster) == self._marker
        return marked and not self.files.is_read_only(self.path)

    async def reopen(self) -> None:
        """Serve again, from what the disk holds now: after the index was damaged, or the directory came back. Raises
        as `open`; then it is FAILED. Raises Conflict for a device whose writes failed.
        """
        if self.poisoned:
            raise Conflict("blocks.device_poisoned", f"device {hex_id(self.id)}: {self.reason}")
        self.state = DeviceState.REBUILDING
        try:
            await self._close_volumes()
            self._unlock()
            await self.open()
        except DwError as error:
            self.state, self.reason = DeviceState.FAILED, str(error)
            raise

    async def close(self) -> None:
        if self.serves:
            self.state = DeviceState.CLOSED
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._close_volumes()
        except TimeoutError:
            _log.error("device does not answer and is left behind", device=hex_id(self.id), path=str(self.path))
        self._unlock()

    async def run(self, work: Callable[[], R]) -> R:
        """`work` on one of the device's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _close_volumes(self) -> None:
        volumes, self._volumes = self._volumes, None
        if volumes is not None:
            await volumes.close()

    async def _verified(self, held: HeldFragment) -> HeldFragment:
        try:
            await self.get(held.key, 0, held.length)
        except (Corrupt, NotFound):
            return replace(held, sound=False)
        return replace(held, sound=True)

    def _written(self) -> Volumes:
        volumes = self.volumes
        if self.state is DeviceState.READ_ONLY:
            raise StorageFailed("blocks.device_read_only", f"device {hex_id(self.id)} is read-only: {self.reason}")
        return volumes

    async def _appending(self, work: Awaitable[object]) -> None:
        """An append; an I/O error takes the device out of service, or leaves it for reading."""
        self.active += 1
        try:
            _ = await work
        except NoSpace:
            self._looked_at = float("-inf")
            raise
        except StorageFailed as error:
            self._broken(error)
            raise
        finally:
            self.active -= 1

    async def _require_space(self, *, repair: bool) -> None:
        await self._look()
        available, total = self._space
        if available < total * (self._repair_reserve if repair else self._reserve):
            raise NoSpace(
                "blocks.device_full", f"device {hex_id(self.id)} reached its reserve", available_bytes=available
            )

    async def _look(self) -> None:
        """At free space, marker and file system, unless just done. Raises StorageFailed: the device was taken out."""
        now = self._clock.monotonic()
        if now - self._looked_at < SPACE_SECONDS:
            return
        self._looked_at = now

        def look() -> tuple[tuple[int, int], bool]:
            if read_marker(self.files, self.path, self._marker.cluster) != self._marker:
                raise StorageFailed("blocks.device_replaced", f"another device lies in {self.path}")
            return self.files.free_bytes(self.path), self.files.is_read_only(self.path)

        try:
            self._space, read_only = await self.run(look)
        except DwError as error:
            self._count_error()
            self._fail(error)
            raise
        if read_only:
            self._become_read_only("its file system became read-only")

    def _broken(self, error: DwError) -> None:
        """A write or sync failed, or the index did."""
        if isinstance(error, IndexDamaged):
            self._index_damaged = True
            if self.serves:
                _log.warning("fragment index is damaged and will be rebuilt", device=hex_id(self.id), error=str(error))
                self.state, self.reason = DeviceState.REBUILDING, error.message
                self._on_failed(self.id, error)
            return
        self._count_error()
        if error.fields.get("errno") == "EROFS":
            self._become_read_only(error.message)
        else:
            self.poisoned = True
            self._fail(error)

    def _become_read_only(self, reason: str) -> None:
        if self.state is DeviceState.OPEN:
            self.state, self.reason = DeviceState.READ_ONLY, reason
            _log.error("device can only be read", device=hex_id(self.id), path=str(self.path), reason=reason)

    def _count_error(self) -> None:
        self.errors += 1
        _ERRORS.add(1, device=hex_id(self.id))

    def _fail(self, error: DwError) -> None:
        if not self.serves:
            return
        self.state, self.reason = DeviceState.FAILED, str(error)
        _log.error("device taken out of service", device=hex_id(self.id), path=str(self.path), reason=self.reason)
        self._on_failed(self.id, error)

    def _make_volumes(self, index: FragmentIndex, *, read_only: bool) -> Volumes:
        return Volumes(
            files=self.files, directory=self.path / "volumes", journal=self._marker.journal, index=index,
            pool=self._pool, volume_bytes=self._options.volume_bytes, allocate_bytes=self._options.allocate_bytes,
            writable=not read_only, on_damaged=self._broken,
        )  # fmt: skip

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
