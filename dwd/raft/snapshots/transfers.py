"""The receiver's side: fetches what a leader offered, range by range, resuming after breaks.

Of every range the receiver first tells the hashes of the pages it has, from its own state or from a transfer that was
broken off, and gets only the others: to begin, to resume and to repair what came out wrong are the same operation.
A newer offer of the same sender does not restart a transfer that is under way: what it brings is still newer than what
is here, and the rest comes by the log. One of another sender does, and one for a replica that took the place of the
one the transfer was begun for.
Invariant: the replica is told of a file only when every chunk's checksum and the whole file's digest held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import google_crc32c
import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Busy, Corrupt, DwError, NoSpace, NotFound, StorageFailed, Unavailable
from dwd.base.ids import GroupId, LogIndex, NodeId, hex_id
from dwd.raft.core.messages import SnapshotOffer
from dwd.raft.core.types import SnapshotMeta
from dwd.raft.options import HostOptions
from dwd.raft.replica import Replica
from dwd.raft.snapshots.incoming import IncomingFile
from dwd.raft.snapshots.pages import PAGE_BYTES, RANGE_BYTES, Extent
from dwd.raft.status import SnapshotProgress
from dwd.raft.telemetry import SNAPSHOT_BYTES
from dwd.raft.transport import SnapshotChunk, SnapshotHeader, SnapshotItem, SnapshotRequest, Transport
from dwd.runtime.serial import Lane, Lanes
from dwd.runtime.tasks import Tasks

T = TypeVar("T")
_log = structlog.get_logger("dwd.raft")

BREAKS_MAX = 8
"""Breaks without a byte of progress between them, after which the offer is given up; the leader offers again."""
BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 5.0)
REMAINS_SECONDS = 600.0
"""How long the file of a transfer that was broken off is kept for the next one."""
INCOMING = "incoming-"


@dataclass(slots=True, kw_only=True)
class _Transfer:
    replica: Replica
    offer: SnapshotOffer
    node: NodeId
    file: IncomingFile
    index_min: LogIndex
    task: asyncio.Task[None] | None = None
    header: SnapshotHeader | None = None
    offset: int = 0
    """Everything below is here."""
    bytes_reused: int = 0
    """Of that, what was not sent."""
    refuted: bool = False
    """Once the whole file was not what it should be."""

    def restart(self) -> None:
        """From the first page, which may be here by now; of another copy."""
        self.header = None
        self.offset = self.bytes_reused = 0

    def advance(self, offset: int, moved: int) -> None:
        self.bytes_reused += offset - self.offset - moved
        self.offset = offset


class Transfers:
    """All transfers into this node; at most one a group."""

    def __init__(
        self,
        directory: Path,
        *,
        transport: Transport,
        lanes: Lanes,
        options: HostOptions,
        clock: Clock,
        tasks: Tasks,
        fail: Callable[[GroupId, BaseException], None],
    ) -> None:
        self._directory = directory
        self._transport = transport
        self._lanes = lanes
        self._options = options
        self._clock = clock
        self._tasks = tasks
        self._fail = fail
        self._running: dict[GroupId, _Transfer] = {}
        self._disk: dict[GroupId, Lane] = {}
        self._remains: dict[Path, float] = {}
        """Files nobody receives into, and since when."""
        self._fetched = 0

    def keep_remains(self) -> None:
        """What transfers of an earlier run left is good to go on from."""
        now = self._clock.monotonic()
        self._remains = dict.fromkeys(self._directory.glob(f"{INCOMING}*"), now)

    def start(self, replica: Replica, offer: SnapshotOffer) -> None:
        running = self._running.get(replica.group)
        if running is not None:
            if running.offer.source == offer.source and running.replica is replica:
                running.offer = offer
                return
            self._stop(running)
        path = self._directory / f"{INCOMING}{hex_id(replica.group)}-{hex_id(replica.id)}"
        self._remains.pop(path, None)
        transfer = _Transfer(
            replica=replica,
            offer=offer,
            node=replica.node_of(offer.source),
            file=IncomingFile(path),
            index_min=offer.snapshot.index,
        )
        self._running[replica.group] = transfer
        transfer.task = self._tasks.spawn(self._run(replica, transfer), name=f"snapshot-{replica.group}")

    def cancel(self, group: GroupId) -> None:
        """The replica goes away."""
        transfer = self._running.pop(group, None)
        if transfer is not None:
            self._stop(transfer)
            _ = self._lane(group).submit(transfer.file.discard)

    def sweep(self) -> None:
        """Delete what broken transfers left and nobody went on from. Cheap when there is nothing."""
        now = self._clock.monotonic()
        for path in [p for p, since in self._remains.items() if now - since > REMAINS_SECONDS]:
            del self._remains[path]
            path.unlink(missing_ok=True)

    def progress(self, group: GroupId) -> SnapshotProgress | None:
        transfer = self._running.get(group)
        if transfer is None:
            return None
        return SnapshotProgress(
            source=transfer.node,
            bytes_done=transfer.offset,
            bytes_total=transfer.header.bytes_total if transfer.header is not None else 0,
            bytes_reused=transfer.bytes_reused,
        )

    # -- one transfer -------------------------------------------------------------------------------------------

    async def _run(self, replica: Replica, transfer: _Transfer) -> None:
        try:
            fetched = await self._fetch_whole(replica, transfer)
            if self._running.get(replica.group) is transfer:
                del self._running[replica.group]
            if fetched is None:
                self._leave(transfer)
                if not replica.closed:
                    replica.snapshot_abandoned()
            elif replica.closed:
                fetched[1].unlink(missing_ok=True)
            else:
                replica.snapshot_fetched(*fetched)
        except Exception as error:  # noqa: BLE001 - whatever it is, it stops this replica and no other
            self._leave(transfer)
            if not replica.closed or isinstance(error, StorageFailed):
                self._fail(replica.group, error)
        finally:
            if self._running.get(replica.group) is transfer:
                del self._running[replica.group]

    async def _fetch_whole(self, replica: Replica, transfer: _Transfer) -> tuple[SnapshotMeta, Path] | None:
        """The file that is now whole and where it stands, None if it was given up."""
        breaks = 0
        while breaks < BREAKS_MAX and not replica.closed:
            before = transfer.offset
            try:
                return await self._fetch_on(replica, transfer)
            except NotFound:
                transfer.restart()
            except NoSpace as error:
                _log.error("no space for a snapshot", **replica.names(), error=str(error))
                await self._on_disk(replica.group, transfer.file.discard)
                break
            except (Unavailable, Busy, Corrupt) as error:
                _log.warning("snapshot transfer broke", **replica.names(), offset=transfer.offset, error=str(error))
            breaks = 1 if transfer.offset > before else breaks + 1
            await asyncio.sleep(BACKOFF_SECONDS[breaks - 1])
        return None

    async def _fetch_on(self, replica: Replica, transfer: _Transfer) -> tuple[SnapshotMeta, Path]:
        """One attempt, from where the last one stopped."""
        header = transfer.header or await self._open(replica, transfer)
        while transfer.offset < header.bytes_total:
            if replica.closed:
                raise Unavailable("raft.replica_stopped", "the replica that wanted the snapshot is gone")
            await self._fetch_range(replica, transfer, header)
        try:
            await self._on_disk(replica.group, partial(transfer.file.finish, header.bytes_total, header.digest))
        except Corrupt:
            self._refute(transfer, header)
            raise
        self._fetched += 1
        path = self._directory / f"fetched-{hex_id(replica.group)}-{self._fetched}"
        await self._on_disk(replica.group, partial(transfer.file.move, path))
        SNAPSHOT_BYTES.add(transfer.bytes_reused, direction="reused")
        _log.info(
            "snapshot received",
            **replica.names(),
            index=header.meta.index,
            bytes_total=header.bytes_total,
            bytes_reused=transfer.bytes_reused,
        )
        return header.meta, path

    async def _open(self, replica: Replica, transfer: _Transfer) -> SnapshotHeader:
        """Which copy it will be; space for it, and in it what is here of it."""
        request = replace(self._request(replica, transfer), ranged=True)
        async with aclosing(self._transport.fetch_snapshot(transfer.node, request)) as items:
            header = await self._header(items, self._options.snapshot_copy_seconds)
        machine, reserve = replica.applier.machine, self._options.snapshot_reserve_bytes
        begin = partial(transfer.file.begin, header.bytes_total, reserve, machine.copy_snapshot)
        await self._on_disk(replica.group, begin)
        transfer.header = header
        _log.info(
            "receiving a snapshot", **replica.names(), source_node=hex_id(transfer.node), bytes_total=header.bytes_total
        )
        return header

    async def _fetch_range(self, replica: Replica, transfer: _Transfer, header: SnapshotHeader) -> None:
        """All to the end of the file from a sender that knows no ranges."""
        request = self._request(replica, transfer)
        end = header.bytes_total
        if header.digest:
            hashes = await self._on_disk(replica.group, partial(transfer.file.hashes, transfer.offset))
            request = replace(request, ranged=True, length=RANGE_BYTES, page_hashes=hashes)
            end = min(end, transfer.offset + RANGE_BYTES)
        async with aclosing(self._transport.fetch_snapshot(transfer.node, request)) as items:
            if (await self._header(items, self._options.snapshot_copy_seconds)).token != header.token:
                raise Corrupt("raft.snapshot_malformed", "the sender goes on with another copy")
            while (item := await self._next(items, self._options.snapshot_chunk_seconds)) is not None:
                extents = _verified(item, Extent(offset=transfer.offset, length=end - transfer.offset))
                await self._on_disk(replica.group, partial(transfer.file.write, extents, item.data))
                transfer.advance(extents[-1].end, len(item.data))
        if header.digest:
            transfer.advance(end, 0)
        elif transfer.offset < end:
            raise Unavailable("raft.snapshot_broken", "the sender ended the transfer early")

    def _request(self, replica: Replica, transfer: _Transfer) -> SnapshotRequest:
        return SnapshotRequest(
            group=replica.group,
            source=transfer.offer.source,
            target=replica.id,
            index_min=max(transfer.index_min, transfer.offer.snapshot.index),
            token=transfer.header.token if transfer.header is not None else 0,
            offset=transfer.offset,
        )

    async def _header(self, items: AsyncIterator[SnapshotItem], seconds: float) -> SnapshotHeader:
        header = await self._next_item(items, seconds)
        if not isinstance(header, SnapshotHeader):
            raise Corrupt("raft.snapshot_malformed", "a snapshot transfer starts without its header")
        return header

    async def _next(self, items: AsyncIterator[SnapshotItem], seconds: float) -> SnapshotChunk | None:
        item = await self._next_item(items, seconds)
        if isinstance(item, SnapshotHeader):
            raise Corrupt("raft.snapshot_malformed", "a second header in a snapshot transfer")
        return item

    async def _next_item(self, items: AsyncIterator[SnapshotItem], seconds: float) -> SnapshotItem | None:
        """None at the end."""
        try:
            async with asyncio.timeout(seconds):
                return await anext(items)
        except TimeoutError as error:
            raise Unavailable("raft.snapshot_slow", f"nothing came for {seconds:g} s") from error
        except StopAsyncIteration:
            return None
        except (Unavailable, Busy, NotFound, Corrupt):
            raise
        except DwError as error:
            # Its trouble (a failed disk, say) is not this node's.
            raise Unavailable("raft.snapshot_refused", f"the sender cannot serve it: {error}") from error

    def _refute(self, transfer: _Transfer, header: SnapshotHeader) -> None:
        """The file is not the sender's: once more through its pages; if that does not help, the copy is bad."""
        if transfer.refuted:
            transfer.index_min = LogIndex(header.meta.index + 1)
            transfer.restart()
        transfer.refuted = True
        transfer.offset = transfer.bytes_reused = 0

    def _stop(self, transfer: _Transfer) -> None:
        if transfer.task is not None:
            transfer.task.cancel()

    def _leave(self, transfer: _Transfer) -> None:
        self._remains[transfer.file.path] = self._clock.monotonic()

    async def _on_disk(self, group: GroupId, work: Callable[[], T]) -> T:
        """In order for a group, so what a transfer that was stopped still does cannot meet the next one's work."""
        return await self._lane(group).submit(work)

    def _lane(self, group: GroupId) -> Lane:
        lane = self._disk.get(group)
        if lane is None:
            lane = self._disk[group] = self._lanes.lane(f"incoming-{group}")
        return lane


def _verified(chunk: SnapshotChunk, wanted: Extent) -> tuple[Extent, ...]:
    """Where the chunk's data belongs, inside of `wanted`. Raises Corrupt."""
    extents = chunk.extents or (Extent(offset=chunk.offset, length=len(chunk.data)),)
    at = wanted.offset
    for extent in extents:
        if extent.length <= 0 or extent.offset < at or extent.offset % PAGE_BYTES or extent.end > wanted.end:
            raise Corrupt("raft.snapshot_malformed", "a chunk of a snapshot is out of place")
        at = extent.end
    if sum(extent.length for extent in extents) != len(chunk.data):
        raise Corrupt("raft.snapshot_malformed", "a chunk of a snapshot is not as long as it says")
    if google_crc32c.value(chunk.data) != chunk.crc32c:
        raise Corrupt("raft.snapshot_checksum", f"the chunk at {chunk.offset} fails its checksum")
    SNAPSHOT_BYTES.add(len(chunk.data), direction="received")
    return extents
