"""The sender's side: copies of databases, each made once, shared by all who ask, and deleted soon after.

Invariants: at most `snapshot_copies_max` copies exist at a time; one that somebody reads is never deleted; a copy
idle for IDLE_SECONDS is (until then a broken transfer may resume from it).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from dwd.base.clock import Clock, Rng
from dwd.base.errors import Busy, NoSpace, NotFound, StorageFailed
from dwd.base.ids import GroupId, LogIndex
from dwd.base.limits import CHUNK_BYTES
from dwd.raft.core.types import SnapshotMeta
from dwd.raft.options import HostOptions
from dwd.raft.telemetry import SNAPSHOT_BYTES
from dwd.raft.transport import SnapshotChunk, SnapshotHeader, SnapshotItem, SnapshotRequest
from dwd.runtime.pacing import TokenBucket

IDLE_SECONDS = 60.0
TOKEN_BITS = 62
PACE_BURST_CHUNKS = 4


@dataclass(slots=True, kw_only=True)
class Copy:
    """A finished copy. `users` read it now."""

    token: int
    group: GroupId
    path: Path
    meta: SnapshotMeta
    bytes_total: int
    users: int = 0
    idle_since: float = 0.0


class Copies:
    """All copies of one node, in a directory that holds nothing else of value."""

    def __init__(self, directory: Path, *, options: HostOptions, clock: Clock, rng: Rng) -> None:
        self._directory = directory
        self._options = options
        self._clock = clock
        self._rng = rng
        self._copies: dict[int, Copy] = {}
        self._under_way = 0
        self._making: dict[GroupId, asyncio.Lock] = {}
        rate = options.snapshot_bytes_per_second
        self._pace = TokenBucket(clock, rate=rate, burst=max(rate / 10, PACE_BURST_CHUNKS * CHUNK_BYTES))

    async def serve(
        self, request: SnapshotRequest, make: Callable[[Path], Awaitable[SnapshotMeta]]
    ) -> AsyncGenerator[SnapshotItem, None]:
        """A header and the chunks from the offset on. `make` writes a new copy, if none is new enough.

        Raises NotFound (the copy to resume is gone), Busy, NoSpace, StorageFailed.
        """
        copy = await self._acquire(request, make)
        try:
            yield SnapshotHeader(token=copy.token, meta=copy.meta, bytes_total=copy.bytes_total)
            offset = request.offset
            while offset < copy.bytes_total:
                data = await asyncio.to_thread(_read, copy.path, offset)
                await self._paced(len(data))
                yield SnapshotChunk(offset=offset, data=data, crc32c=google_crc32c.value(data))
                SNAPSHOT_BYTES.add(len(data), direction="sent")
                offset += len(data)
        finally:
            copy.users -= 1
            copy.idle_since = self._clock.monotonic()

    def oldest(self, group: GroupId) -> LogIndex | None:
        """Where the oldest copy of the group stands: who takes it needs the log from there on."""
        return min((c.meta.index for c in self._copies.values() if c.group == group), default=None)

    def sweep(self) -> None:
        """Delete what nobody has read for a while. Cheap when there is nothing."""
        if not self._copies:
            return
        now = self._clock.monotonic()
        for copy in [c for c in self._copies.values() if c.users == 0 and now - c.idle_since > IDLE_SECONDS]:
            self._delete(copy)

    async def _paced(self, size: int) -> None:
        pause = self._pace.take(size)
        while pause > 0:
            await asyncio.sleep(pause)
            pause = self._pace.take(size)

    async def _acquire(self, request: SnapshotRequest, make: Callable[[Path], Awaitable[SnapshotMeta]]) -> Copy:
        if request.token:
            return self._lease(self._resumed(request))
        async with self._making.setdefault(request.group, asyncio.Lock()):
            known = [c for c in self._copies.values() if c.group == request.group]
            fit = next((c for c in known if c.meta.index >= request.index_min), None)
            if fit is not None:
                return self._lease(fit)
            self._make_room()
            return self._lease(await self._make(request.group, make))

    def _resumed(self, request: SnapshotRequest) -> Copy:
        copy = self._copies.get(request.token)
        if copy is None or copy.group != request.group or request.offset > copy.bytes_total:
            raise NotFound("raft.snapshot_gone", "the copy to resume from is gone; start again", group=request.group)
        return copy

    def _lease(self, copy: Copy) -> Copy:
        copy.users += 1
        return copy

    async def _make(self, group: GroupId, make: Callable[[Path], Awaitable[SnapshotMeta]]) -> Copy:
        token = self._rng.bits(TOKEN_BITS) | 1
        path = self._directory / f"copy-{token:016x}"
        self._under_way += 1
        try:
            meta = await make(path)
            copy = Copy(token=token, group=group, path=path, meta=meta, bytes_total=path.stat().st_size)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            self._under_way -= 1
        self._copies[token] = copy
        return copy

    def _make_room(self) -> None:
        """Raises Busy or NoSpace."""
        idle = sorted((c for c in self._copies.values() if c.users == 0), key=lambda c: c.idle_since)
        while len(self._copies) + self._under_way >= self._options.snapshot_copies_max:
            if not idle:
                raise Busy("raft.snapshot_copies", "as many copies as allowed are being sent", limit=len(self._copies))
            self._delete(idle.pop(0))
        free = shutil.disk_usage(self._directory).free
        if free < self._options.snapshot_reserve_bytes:
            raise NoSpace("raft.snapshot_space", "no space for a copy of the state machine", free_bytes=free)

    def _delete(self, copy: Copy) -> None:
        self._copies.pop(copy.token, None)
        copy.path.unlink(missing_ok=True)


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(CHUNK_BYTES)
    except OSError as error:
        raise StorageFailed("raft.snapshot_unreadable", f"a copy cannot be read: {error}") from error
    if not data:
        raise StorageFailed("raft.snapshot_short", "a copy is shorter than it was when made")
    return data
