"""The receiver's side: fetches what a leader offered, chunk by chunk, resuming after breaks.

A newer offer of the same sender does not restart a transfer that is under way: what it brings is still newer than what
is here, and the rest comes by the log. One of another sender does, and one for a replica that took the place of the
one the transfer was begun for.
Invariant: the replica is told of a file only when every chunk's checksum held and the size is the announced one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import structlog

from dwd.base.errors import Busy, Corrupt, DwError, NoSpace, NotFound, StorageFailed, Unavailable
from dwd.base.ids import GroupId, NodeId
from dwd.raft.core.messages import SnapshotOffer
from dwd.raft.core.types import SnapshotMeta
from dwd.raft.options import HostOptions
from dwd.raft.replica import Replica
from dwd.raft.status import SnapshotProgress
from dwd.raft.telemetry import SNAPSHOT_BYTES
from dwd.raft.transport import SnapshotChunk, SnapshotHeader, SnapshotItem, SnapshotRequest, Transport
from dwd.runtime.tasks import Tasks

_log = structlog.get_logger("dwd.raft")

BREAKS_MAX = 8
"""Breaks without a byte of progress between them, after which the offer is given up; the leader offers again."""
BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 5.0)


@dataclass(slots=True, kw_only=True)
class _Transfer:
    replica: Replica
    offer: SnapshotOffer
    node: NodeId
    path: Path
    task: asyncio.Task[None] | None = None
    token: int = 0
    meta: SnapshotMeta | None = None
    offset: int = 0
    bytes_total: int = 0

    def restart(self) -> None:
        self.token = self.offset = self.bytes_total = 0
        self.meta = None


class Transfers:
    """All transfers into this node; at most one a group."""

    def __init__(
        self,
        directory: Path,
        *,
        transport: Transport,
        options: HostOptions,
        tasks: Tasks,
        fail: Callable[[GroupId, BaseException], None],
    ) -> None:
        self._directory = directory
        self._transport = transport
        self._options = options
        self._tasks = tasks
        self._fail = fail
        self._running: dict[GroupId, _Transfer] = {}

    def start(self, replica: Replica, offer: SnapshotOffer) -> None:
        running = self._running.get(replica.group)
        if running is not None:
            if running.offer.source == offer.source and running.replica is replica:
                running.offer = offer
                return
            self.cancel(replica.group)
        transfer = _Transfer(
            replica=replica,
            offer=offer,
            node=replica.node_of(offer.source),
            path=self._directory / f"incoming-{replica.group:x}-{replica.id:x}-{offer.source:x}",
        )
        self._running[replica.group] = transfer
        transfer.task = self._tasks.spawn(self._run(replica, transfer), name=f"snapshot-{replica.group}")

    def cancel(self, group: GroupId) -> None:
        transfer = self._running.pop(group, None)
        if transfer is not None and transfer.task is not None:
            transfer.task.cancel()

    def progress(self, group: GroupId) -> SnapshotProgress | None:
        transfer = self._running.get(group)
        if transfer is None:
            return None
        return SnapshotProgress(source=transfer.node, bytes_done=transfer.offset, bytes_total=transfer.bytes_total)

    async def _run(self, replica: Replica, transfer: _Transfer) -> None:
        try:
            meta = await self._fetch_whole(replica, transfer)
            if self._running.get(replica.group) is transfer:
                del self._running[replica.group]
            if replica.closed:
                transfer.path.unlink(missing_ok=True)
            elif meta is None:
                replica.snapshot_abandoned()
            else:
                replica.snapshot_fetched(meta, transfer.path)
        except Exception as error:  # noqa: BLE001 - whatever it is, it stops this replica and no other
            if not replica.closed or isinstance(error, StorageFailed):
                self._fail(replica.group, error)
        except asyncio.CancelledError:
            transfer.path.unlink(missing_ok=True)
            raise
        finally:
            if self._running.get(replica.group) is transfer:
                del self._running[replica.group]

    async def _fetch_whole(self, replica: Replica, transfer: _Transfer) -> SnapshotMeta | None:
        """The position of the file that is now whole at `path`, None if it was given up."""
        breaks = 0
        while breaks < BREAKS_MAX:
            before = transfer.offset
            try:
                return await self._fetch_on(replica, transfer)
            except NotFound:
                transfer.restart()
            except NoSpace as error:
                _log.error("no space for a snapshot", **replica.names(), error=str(error))
                break
            except (Unavailable, Busy, Corrupt) as error:
                _log.warning("snapshot transfer broke", **replica.names(), offset=transfer.offset, error=str(error))
            breaks = 1 if transfer.offset > before else breaks + 1
            await asyncio.sleep(BACKOFF_SECONDS[breaks - 1])
        transfer.path.unlink(missing_ok=True)
        return None

    async def _fetch_on(self, replica: Replica, transfer: _Transfer) -> SnapshotMeta:
        """One attempt, from where the last one stopped."""
        request = SnapshotRequest(
            group=replica.group,
            source=transfer.offer.source,
            target=replica.id,
            index_min=transfer.offer.snapshot.index,
            token=transfer.token,
            offset=transfer.offset,
        )
        async with aclosing(self._transport.fetch_snapshot(transfer.node, request)) as items:
            return await self._receive(transfer, items)

    async def _receive(self, transfer: _Transfer, items: AsyncIterator[SnapshotItem]) -> SnapshotMeta:
        header = await self._next(items, self._options.snapshot_copy_seconds)
        if not isinstance(header, SnapshotHeader):
            raise Corrupt("raft.snapshot_malformed", "a snapshot transfer starts without its header")
        transfer.token, transfer.meta, transfer.bytes_total = header.token, header.meta, header.bytes_total
        self._check_space(transfer)
        while transfer.offset < transfer.bytes_total:
            chunk = await self._next(items, self._options.snapshot_chunk_seconds)
            data = _verified(chunk, transfer.offset)
            await asyncio.to_thread(_write, transfer.path, transfer.offset, data)
            transfer.offset += len(data)
        await asyncio.to_thread(_finish, transfer.path, transfer.bytes_total)
        return header.meta

    async def _next(self, items: AsyncIterator[SnapshotItem], seconds: float) -> SnapshotItem:
        try:
            async with asyncio.timeout(seconds):
                return await anext(items)
        except TimeoutError as error:
            raise Unavailable("raft.snapshot_slow", f"nothing came for {seconds:g} s") from error
        except StopAsyncIteration as error:
            raise Unavailable("raft.snapshot_broken", "the sender ended the transfer early") from error
        except (Unavailable, Busy, NotFound, Corrupt):
            raise
        except DwError as error:
            # Its trouble (a failed disk, say) is not this node's.
            raise Unavailable("raft.snapshot_refused", f"the sender cannot serve it: {error}") from error

    def _check_space(self, transfer: _Transfer) -> None:
        free = shutil.disk_usage(self._directory).free
        needed = transfer.bytes_total - transfer.offset + self._options.snapshot_reserve_bytes
        if free < needed:
            raise NoSpace("raft.snapshot_space", "no space for a snapshot", free_bytes=free, needed_bytes=needed)


def _verified(item: SnapshotItem, offset: int) -> bytes:
    if not isinstance(item, SnapshotChunk) or item.offset != offset or not item.data:
        raise Corrupt("raft.snapshot_malformed", "a chunk of a snapshot is out of place")
    if google_crc32c.value(item.data) != item.crc32c:
        raise Corrupt("raft.snapshot_checksum", f"the chunk at {offset} fails its checksum")
    SNAPSHOT_BYTES.add(len(item.data), direction="received")
    return item.data


def _write(path: Path, offset: int, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if offset == 0 else 0), 0o600)
        try:
            os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _translated(error) from error


def _finish(path: Path, size: int) -> None:
    """Durable, and of the announced size."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.fsync(descriptor)
            found = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _translated(error) from error
    if found != size:
        raise Corrupt("raft.snapshot_size", f"{found} bytes came of {size} announced")


def _translated(error: OSError) -> DwError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("raft.snapshot_space", f"a snapshot cannot be written: {error.strerror}")
    return StorageFailed("raft.snapshot_unwritable", f"a snapshot cannot be written: {error.strerror}")
