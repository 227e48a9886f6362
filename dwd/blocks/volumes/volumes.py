"""All volumes of one device: append, read, delete, compact.

Appends of all callers share batches and syncs (dwd.journal). Deleting appends a tombstone; the bytes go when less
than half of a volume lives and compaction moves the rest to the end.

Invariants:
* the overlay is newer than the index table, and both say only what is durable (deletions are said at once);
* a tombstone is kept as long as an older volume, which may hold what it deletes, exists.
Threads: methods are called on the event loop; file and index work runs on `pool`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from dwd.base.errors import Busy, Corrupt, DwError, InvariantViolation, NotFound, StorageFailed
from dwd.base.ids import BlockId
from dwd.base.units import GIB, MIB
from dwd.blocks.volumes.fragment import (
    FRAME_FRAGMENT,
    FRAME_TOMBSTONE,
    PAGE_BYTES,
    FragmentHead,
    FragmentKey,
    decode_head,
    encode_keys,
    verify_pages,
)
from dwd.blocks.volumes.index import Checkpoint, FragmentIndex, IndexDamaged, Place
from dwd.blocks.volumes.open_files import OpenFiles
from dwd.blocks.volumes.policy import Note, VolumePolicy
from dwd.blocks.volumes.recovery import Recovered, recover
from dwd.journal.appender import Appender, Tail
from dwd.journal.frames import Frame, Position
from dwd.journal.writer import BATCH_TARGET_BYTES, GroupCommitWriter
from dwd.runtime.files import Buffer, File, Files

VOLUME_BYTES = 1 * GIB
ALLOCATE_BYTES = 64 * MIB
OVERLAY_FLUSH_ROWS = 4_096
"""Changes not in the index table yet before somebody should flush."""
WHOLE_READ_BYTES = 128 * 1024
"""Fragments up to this size are read in one piece."""
OVERLAY_ROWS_MAX = 200_000
"""Past it nothing more is taken: the index does not keep up, or cannot be written."""
MOVES_MAX = 3
"""How often a fragment is looked up again because compaction moved it while it was read."""

if PAGE_BYTES > WHOLE_READ_BYTES:
    raise InvariantViolation("a page must fit a whole read")


_NOT_NOTED = Place(0, 0, 0, 0)
"""Of a key the overlay says nothing about; no fragment lies in volume 0."""

R = TypeVar("R")


class Volumes:
    def __init__(
        self,
        *,
        files: Files,
        directory: Path,
        journal: bytes,
        index: FragmentIndex,
        pool: Executor,
        volume_bytes: int = VOLUME_BYTES,
        allocate_bytes: int = ALLOCATE_BYTES,
        writable: bool = True,
        on_damaged: Callable[[IndexDamaged], None] | None = None,
    ) -> None:
        """Not `writable`: nothing on the device is changed, and every append is refused. `on_damaged` is told when the
        index proves damaged while it is used.
        """
        self.files, self.index, self.journal = files, index, journal
        self._writable = writable
        self._on_damaged = on_damaged
        self.policy = VolumePolicy(directory, volume_bytes=volume_bytes, allocate_bytes=allocate_bytes)
        self.directory = directory
        self.maintenance = asyncio.Lock()
        """Held while the overlay moves into the index table, and while a volume is compacted."""
        self._pool = pool
        self._overlay: dict[FragmentKey, Place | None] = {}
        self._unsynced_deletes: dict[FragmentKey, int] = {}
        self._arriving: dict[FragmentKey, int] = {}
        self._flushed = 0
        self._tail: Tail | None = None
        self._writer: GroupCommitWriter | None = None
        self.open_files = OpenFiles(files, self.policy.path)

    async def open(self, name: str, on_fatal: Callable[[DwError], None]) -> Recovered:
        """Recover, then accept appends. `on_fatal`: a sync failed, the device must be given up."""
        found = await self.run(
            lambda: recover(self.files, self.directory, self.journal, self.index, writable=self._writable)
        )
        self._tail = found.tail
        if not self._writable:
            return found
        appender = await self.run(lambda: self._appender(found.tail))
        self.policy.tail = lambda: appender.tail
        self._writer = GroupCommitWriter(
            appender=appender, name=name, on_fatal=on_fatal,
            batch_bytes_target=min(BATCH_TARGET_BYTES, self.policy.segment_bytes // 2),
        )  # fmt: skip
        return found

    @property
    def tail(self) -> Tail:
        """Where the next batch goes; everything before is in overlay or index."""
        if self._tail is None:
            raise InvariantViolation("volumes are used before they are open")
        return self._tail

    @property
    def overlay_rows(self) -> int:
        return len(self._overlay)

    @property
    def queued_bytes(self) -> int:
        return self._writer.queued_bytes if self._writer is not None else 0

    def put(self, fragments: Sequence[tuple[FragmentKey, Buffer, Buffer]]) -> asyncio.Future[Sequence[Position]]:
        """Append (key, encoded head, bytes); the future is done when all are durable. Raises Busy, StorageFailed."""
        if len(self._overlay) >= OVERLAY_ROWS_MAX:
            raise Busy("blocks.index_behind", f"{len(self._overlay)} changes wait to be written into the index")
        frames = [
            Frame(kind=FRAME_FRAGMENT, group=0, replica=key.index, pieces=(head, content))
            for key, head, content in fragments
        ]

        def landed(positions: Sequence[Position]) -> None:
            arrived()
            for (key, head, content), position in zip(fragments, positions, strict=True):
                self._overlay[key] = Place(position.segment, position.offset, len(head), len(content))

        def arrived() -> None:
            for key, _, _ in fragments:
                self._arriving[key] -= 1
                if not self._arriving[key]:
                    del self._arriving[key]

        future = self.submit(frames, landed, arrived)
        for key, _, _ in fragments:
            self._arriving[key] = self._arriving.get(key, 0) + 1
        return future

    def delete(self, keys: Sequence[FragmentKey]) -> asyncio.Future[Sequence[Position]]:
        """Forget fragments now, durably when the future is done. Unknown keys are no error."""
        known = [key for key in keys if self._overlay.get(key, key) is not None]
        before = {key: self._overlay.get(key) for key in known}
        for key in known:
            self._overlay[key] = None
            self._unsynced_deletes[key] = self._unsynced_deletes.get(key, 0) + 1

        def landed(_: Sequence[Position]) -> None:
            self._settle(known)
            for key in known:
                self._overlay[key] = None

        def failed() -> None:
            self._settle(known)
            for key, place in before.items():
                if place is not None:
                    self._overlay[key] = place
                elif self._overlay.get(key, key) is None:
                    del self._overlay[key]

        if not known:
            future: asyncio.Future[Sequence[Position]] = asyncio.get_running_loop().create_future()
            future.set_result(())
            return future
        frame = Frame(kind=FRAME_TOMBSTONE, group=0, replica=0, pieces=(encode_keys(known),))
        try:
            return self.submit([frame], landed, failed)
        except DwError:
            failed()
            raise

    def submit(
        self,
        frames: Sequence[Frame],
        landed: Callable[[Sequence[Position]], None],
        failed: Callable[[], None] | None = None,
    ) -> asyncio.Future[Sequence[Position]]:
        """Append; `landed` runs on the loop once it is durable, in order, whether or not somebody still waits."""
        note = Note()

        def done(positions: Sequence[Position], error: DwError | None) -> None:
            if error is None:
                self._tail = note.tail or self._tail
                landed(positions)
            elif failed is not None:
                failed()

        return self._open_writer().submit(frames, note=note, done=done)

    def place_of(self, key: FragmentKey) -> Place | None:
        """Where the fragment is; on worker threads."""
        noted = self._overlay.get(key, _NOT_NOTED)
        return self.index.find(key) if noted is _NOT_NOTED else noted

    def expected(self, key: FragmentKey) -> bool:
        """Whether the fragment is here or on its way."""
        return key in self._arriving or self._overlay.get(key) is not None

    def moved(self, key: FragmentKey, old: Place, new: Place) -> None:
        """Compaction copied it: believed unless something newer happened."""
        if self._overlay.get(key, old) == old:
            self._overlay[key] = new

    def gone(self, key: FragmentKey) -> bool:
        """Deleted, not yet in the index table."""
        return key in self._overlay and self._overlay[key] is None

    async def read(self, key: FragmentKey, offset: int, length: int) -> tuple[FragmentHead, memoryview]:
        """Verified bytes of a fragment, shorter at its end. Raises NotFound, Corrupt, StorageFailed."""
        if self.gone(key):
            raise _absent(key)
        return await self.run(lambda: self._find_and_read(key, offset, length))

    async def delete_copies(self, copies: Sequence[tuple[FragmentKey, int]]) -> None:
        """Forget those of the fragments that still are these copies (`Place.copy`), durably on return. What was
        written again since, or is on its way, stays.
        """
        while True:
            flushed = self._flushed
            places = await self.run(lambda: [self.index.find(key) for key, _ in copies])
            if flushed == self._flushed:  # else a place noted meanwhile may have moved into the table behind our back
                break
        same = []
        for (key, copy), indexed in zip(copies, places, strict=True):
            noted = self._overlay.get(key, _NOT_NOTED)
            place = indexed if noted is _NOT_NOTED else noted
            if place is not None and place.copy == copy and key not in self._arriving:
                same.append(key)
        _ = await self.delete(same)

    async def of_blocks(self, blocks: Sequence[BlockId]) -> list[list[tuple[int, Place]]]:
        """For each block the (index, place) of every fragment here."""
        wanted = set(blocks)
        newer: dict[BlockId, dict[int, Place | None]] = {}
        for key, place in self._overlay.items():
            if key.block in wanted:
                newer.setdefault(key.block, {})[key.index] = place
        older = await self.run(lambda: [dict(self.index.of_block(block)) for block in blocks])
        found = []
        for block, places in zip(blocks, older, strict=True):
            now: dict[int, Place | None] = {**places, **newer.get(block, {})}
            found.append(sorted((index, place) for index, place in now.items() if place is not None))
        return found

    async def flush(self) -> None:
        """Move the overlay into the index table with the place up to which it is complete."""
        async with self.maintenance:
            tail = self.tail
            changes = [(k, p) for k, p in self._overlay.items() if k not in self._unsynced_deletes]
            at = Checkpoint(segment=tail.segment, offset=tail.offset, sequence=tail.sequence)
            await self.run(lambda: self.index.flush(changes, at if tail.offset else None))
            self._flushed += 1
            for key, place in changes:
                if key not in self._unsynced_deletes and self._overlay.get(key, key) is place:
                    del self._overlay[key]

    async def close(self) -> None:
        """Write what is queued, flush the index, close all files."""
        if self._writer is not None:
            await self._writer.close()
            with contextlib.suppress(DwError):
                await self.flush()
        await self.run(self._close_files)

    async def run(self, work: Callable[[], R]) -> R:
        """`work` on a worker thread."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except IndexDamaged as error:
            if self._on_damaged is not None and self._tail is not None:
                self._on_damaged(error)
            raise

    def remove(self, segment: int) -> None:
        """Delete a volume. Readers still in it keep their file."""
        self.open_files.forget(segment)
        self.files.remove(self.policy.path(segment))
        self.files.sync_directory(self.directory)

    def _find_and_read(self, key: FragmentKey, offset: int, length: int) -> tuple[FragmentHead, memoryview]:
        """Compaction may move a fragment away under its reader: then it is read where it went."""
        place = self.place_of(key)
        for _ in range(MOVES_MAX):
            try:
                return self._read(key, place, offset, length)
            except (Corrupt, StorageFailed):
                now = self.place_of(key)
                if now == place:
                    raise
                place = now
        return self._read(key, place, offset, length)

    def raw(self, key: FragmentKey, place: Place) -> bytes:
        """Head and bytes of the fragment as they lie there, all of it verified; on worker threads. Raises Corrupt,
        StorageFailed.
        """
        with self.open_files.reading(place.segment) as file:
            content = file.read_at(place.offset, place.bytes)
        check(key, place, content)
        return content

    def _read(self, key: FragmentKey, place: Place | None, offset: int, length: int) -> tuple[FragmentHead, memoryview]:
        if place is None:
            raise _absent(key)
        with self.open_files.reading(place.segment) as file:
            return self._read_in(file, key, place, offset, length)

    def _read_in(
        self, file: File, key: FragmentKey, place: Place, offset: int, length: int
    ) -> tuple[FragmentHead, memoryview]:
        first = min(offset, place.length) // PAGE_BYTES
        start = first * PAGE_BYTES
        end = min(place.length, -(-(offset + length) // PAGE_BYTES) * PAGE_BYTES)
        if place.bytes <= WHOLE_READ_BYTES or start == 0:
            raw = file.read_at(place.offset, place.head + end)
            content = memoryview(raw)[place.head + start :]
        else:
            raw = file.read_at(place.offset, place.head)
            content = memoryview(file.read_at(place.offset + place.head + start, end - start))
        head = decode_head(raw)
        if head.key != key or head.size != place.head or head.length != place.length or len(content) != end - start:
            raise Corrupt("blocks.fragment_misplaced", "another fragment lies where the index points")
        verify_pages(head, content, first_page=first)
        return head, content[offset - start : offset - start + length]

    def _settle(self, keys: Sequence[FragmentKey]) -> None:
        for key in keys:
            left = self._unsynced_deletes.pop(key, 1) - 1
            if left:
                self._unsynced_deletes[key] = left

    def _appender(self, tail: Tail) -> Appender:
        return Appender(files=self.files, policy=self.policy, journal=self.journal, tail=tail)

    def _open_writer(self) -> GroupCommitWriter:
        if not self._writable:
            raise StorageFailed("blocks.device_read_only", "the device is read-only", errno="EROFS")
        if self._writer is None:
            raise InvariantViolation("volumes are used before they are open")
        return self._writer

    def _close_files(self) -> None:
        self.open_files.close()
        self.index.close()


def check(key: FragmentKey, place: Place, content: Buffer) -> FragmentHead:
    """That `content`, head and bytes of a place, is this fragment and sound. Raises Corrupt."""
    head = decode_head(content)
    if head.key != key or head.size != place.head or head.length != place.length or len(content) != place.bytes:
        raise Corrupt("blocks.fragment_misplaced", "another fragment lies where the index points")
    verify_pages(head, memoryview(content)[head.size :])
    return head


def _absent(key: FragmentKey) -> NotFound:
    return NotFound("blocks.no_such_fragment", f"fragment {key.index} of block {key.block.hex()} is not here")
