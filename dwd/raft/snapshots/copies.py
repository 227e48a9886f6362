"""The sender's side: copies of databases, each made once, shared by all who ask, and deleted soon after.

A copy is made on a thread of its own, from a read transaction of its own, so the group goes on applying meanwhile; its
pages' hashes are written beside it, for whoever has an older copy sends theirs and gets only what differs.
Invariants: at most `snapshot_copies_max` copies exist at a time; one that somebody reads is never deleted; a copy
idle for IDLE_SECONDS is (until then a broken transfer may resume from it).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import google_crc32c

from dwd.base.clock import Clock, Rng
from dwd.base.errors import Busy, Corrupt, NoSpace, NotFound
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId
from dwd.base.limits import CHUNK_BYTES
from dwd.raft.core.types import SnapshotMeta
from dwd.raft.options import HostOptions
from dwd.raft.snapshots.pages import (
    PAGE_BYTES,
    RANGE_BYTES,
    Extent,
    differing,
    grouped,
    read_extents,
    read_hashes,
    write_hashes,
)
from dwd.raft.status import SnapshotProgress
from dwd.raft.telemetry import SNAPSHOT_BYTES
from dwd.raft.transport import SnapshotChunk, SnapshotHeader, SnapshotItem, SnapshotRequest
from dwd.runtime.pacing import TokenBucket
from dwd.runtime.serial import Lanes

MakeCopy = Callable[[Path], SnapshotMeta]
"""Blocking: writes a complete, consistent copy of the machine; its position."""

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
    digest: bytes
    users: int = 0
    idle_since: float = 0.0

    @property
    def hashes(self) -> Path:
        return _hashes_of(self.path)


@dataclass(slots=True, kw_only=True)
class _Sending:
    """How far one receiver is."""

    token: int
    bytes_total: int
    seen_at: float
    bytes_done: int = 0
    bytes_reused: int = 0


class Copies:
    """All copies of one node, in a directory that holds nothing else of value."""

    def __init__(
        self, directory: Path, *, node: NodeId, lanes: Lanes, options: HostOptions, clock: Clock, rng: Rng
    ) -> None:
        """`lanes` do the copying, hashing and reading."""
        self._directory = directory
        self._node = node
        self._lanes = lanes
        self._options = options
        self._clock = clock
        self._rng = rng
        self._copies: dict[int, Copy] = {}
        self._under_way = 0
        self._making: dict[GroupId, asyncio.Lock] = {}
        self._sendings: dict[tuple[GroupId, ReplicaId], _Sending] = {}
        rate = options.snapshot_bytes_per_second
        self._pace = TokenBucket(clock, rate=rate, burst=max(rate / 10, PACE_BURST_CHUNKS * CHUNK_BYTES))

    async def serve(self, request: SnapshotRequest, make: MakeCopy) -> AsyncGenerator[SnapshotItem, None]:
        """A header, and chunks of what was asked for. `make` writes a new copy, if none is new enough.

        Raises NotFound (the copy named is gone), Corrupt (no such range), Busy, NoSpace, StorageFailed.
        """
        copy = await self._acquire(request, make)
        try:
            sending = self._note_sending(request, copy)
            yield SnapshotHeader(token=copy.token, meta=copy.meta, bytes_total=copy.bytes_total, digest=copy.digest)
            wanted = _range_of(request, copy.bytes_total)
            own = await self._lanes.run(partial(read_hashes, copy.hashes, wanted)) if wanted.length else b""
            for extents in _messages(request, wanted, own):
                data = await self._lanes.run(partial(read_extents, copy.path, extents))
                await self._paced(len(data))
                yield SnapshotChunk(
                    offset=extents[0].offset,
                    data=data,
                    crc32c=google_crc32c.value(data),
                    extents=tuple(extents) if len(extents) > 1 else (),
                )
                SNAPSHOT_BYTES.add(len(data), direction="sent")
                self._advance(sending, extents[-1].end, len(data))
            self._advance(sending, wanted.end, 0)
        finally:
            copy.users -= 1
            copy.idle_since = self._clock.monotonic()

    def sending(self, group: GroupId, target: ReplicaId) -> SnapshotProgress | None:
        """How far the transfer to `target` is, if one is under way."""
        found = self._sendings.get((group, target))
        if found is None:
            return None
        return SnapshotProgress(
            source=self._node,
            bytes_done=found.bytes_done,
            bytes_total=found.bytes_total,
            bytes_reused=found.bytes_reused,
        )

    def oldest(self, group: GroupId, *, sending: bool = False) -> LogIndex | None:
        """Where the oldest copy of the group stands: who takes it needs the log from there on. `sending`: of those
        that somebody is receiving now.
        """
        taken = {found.token for found in self._sendings.values()}
        copies = [c for c in self._copies.values() if c.group == group]
        return min((c.meta.index for c in copies if not sending or c.users or c.token in taken), default=None)

    def sweep(self) -> None:
        """Delete what nobody has read for a while. Cheap when there is nothing."""
        if not self._copies and not self._sendings:
            return
        now = self._clock.monotonic()
        for copy in [c for c in self._copies.values() if c.users == 0 and now - c.idle_since > IDLE_SECONDS]:
            self._delete(copy)
        for key in [k for k, s in self._sendings.items() if s.token not in self._copies]:
            del self._sendings[key]

    def _note_sending(self, request: SnapshotRequest, copy: Copy) -> _Sending:
        key, now = (request.group, request.target), self._clock.monotonic()
        known = self._sendings.get(key)
        if known is None or known.token != copy.token or request.offset < known.bytes_done:
            known = self._sendings[key] = _Sending(token=copy.token, bytes_total=copy.bytes_total, seen_at=now)
        return known

    def _advance(self, sending: _Sending, done: int, moved: int) -> None:
        """The receiver is at `done`; of the way there `moved` bytes were sent."""
        sending.bytes_reused += max(0, done - sending.bytes_done - moved)
        sending.bytes_done = max(sending.bytes_done, done)
        if sending.bytes_done >= sending.bytes_total:
            for key in [k for k, s in self._sendings.items() if s is sending]:
                del self._sendings[key]

    async def _paced(self, size: int) -> None:
        pause = self._pace.take(size)
        while pause > 0:
            await asyncio.sleep(pause)
            pause = self._pace.take(size)

    async def _acquire(self, request: SnapshotRequest, make: MakeCopy) -> Copy:
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

    async def _make(self, group: GroupId, make: MakeCopy) -> Copy:
        token = self._rng.bits(TOKEN_BITS) | 1
        path = self._directory / f"copy-{token:016x}"
        self._under_way += 1
        work = self._lanes.lane(f"copy-{group}").submit(partial(_write_copy, path, make))
        work.add_done_callback(partial(self._made, token, group, path))
        await asyncio.shield(work)  # who gives up waiting leaves the copy to whoever asks next
        copy = self._copies.get(token)
        if copy is None:
            raise Busy("raft.snapshot_copies", "the copy had to make room for another", group=group)
        return copy

    def _made(
        self, token: int, group: GroupId, path: Path, work: asyncio.Future[tuple[SnapshotMeta, int, bytes]]
    ) -> None:
        self._under_way -= 1
        if work.cancelled() or work.exception() is not None:
            _remove(path)
            return
        meta, size, digest = work.result()
        self._copies[token] = Copy(
            token=token,
            group=group,
            path=path,
            meta=meta,
            bytes_total=size,
            digest=digest,
            idle_since=self._clock.monotonic(),
        )

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
        _remove(copy.path)


def _range_of(request: SnapshotRequest, bytes_total: int) -> Extent:
    """What is asked for, as far as there is a file. Raises Corrupt for what no receiver asks for."""
    length = min(request.length, bytes_total - request.offset) if request.ranged else bytes_total - request.offset
    if length < 0 or request.length > RANGE_BYTES or request.offset % PAGE_BYTES:
        raise Corrupt("raft.snapshot_range", "a snapshot is asked for in a range that makes no sense")
    return Extent(offset=request.offset, length=length)


def _messages(request: SnapshotRequest, wanted: Extent, own: bytes) -> Iterator[list[Extent]]:
    """What each message carries. Those who ask for everything expect it without gaps."""
    extents = differing(wanted, own, request.page_hashes)
    return grouped(extents) if request.ranged else ([extent] for extent in extents)


def _write_copy(path: Path, make: MakeCopy) -> tuple[SnapshotMeta, int, bytes]:
    meta = make(path)
    size, digest = write_hashes(path, _hashes_of(path))
    return meta, size, digest


def _hashes_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.hashes")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _hashes_of(path).unlink(missing_ok=True)
