"""The writing half of a journal, synchronous: batches into segments, each durable before the next is begun.

Invariants: an append either is durable when it returns or has left nothing that recovery could take for a batch; a
segment's header and name are durable before its first batch, and its opening before any other batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from dwd.base.errors import DwError, InvalidArgument, InvariantViolation, StorageFailed
from dwd.journal.frames import BATCH_HEADER_BYTES, Frame, Position, aligned, encode_batch, frame_bytes, segment_seed
from dwd.journal.segments import HEADER_BYTES, SegmentHeader, SegmentPolicy, encode_header
from dwd.runtime.files import File, Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Where a journal goes on: `sequence` is the next batch's. `offset` 0: `segment` is yet to be made."""

    segment: int
    offset: int
    sequence: int


FIRST_TAIL = Tail(segment=1, offset=0, sequence=1)
"""Where an empty journal goes on."""


class Appender:
    """Used by one thread at a time."""

    def __init__(self, *, files: Files, policy: SegmentPolicy, journal: bytes, tail: Tail) -> None:
        """`journal` is the id in every header; `tail` what recovery found, or FIRST_TAIL. Raises StorageFailed."""
        self.policy = policy
        self.failed: DwError | None = None
        """Set once and for ever when a sync failed."""
        self._files = files
        self._journal = journal
        self._segment = tail.segment
        self._offset = tail.offset
        self._sequence = tail.sequence
        self._seed = segment_seed(journal, tail.segment)
        self._allocated = 0
        self._opening_due = tail.offset == HEADER_BYTES
        self._file: File | None = None
        if tail.offset:
            self._file = files.open(policy.path(tail.segment))
            self._allocated = self._file.size()

    @property
    def tail(self) -> Tail:
        return Tail(segment=self._segment, offset=self._offset, sequence=self._sequence)

    def append(self, frames: Sequence[Frame], notes: Sequence[object] = ()) -> list[Position]:
        """Positions of `frames`, durable. Raises NoSpace or StorageFailed: nothing of them is in the journal, and
        unless `failed` is set later appends may succeed. InvalidArgument: larger than a segment.
        """
        if self.failed is not None:
            raise self.failed
        size = aligned(BATCH_HEADER_BYTES + sum(map(frame_bytes, frames)))
        if size > self.policy.segment_bytes - HEADER_BYTES:
            raise InvalidArgument("journal.append_size", f"a batch of {size} bytes exceeds a segment")
        if self._file is None or self._offset + size > self.policy.segment_bytes:
            self._begin_segment()
        if self._opening_due:
            self._open_segment()
        positions = self._put(frames)
        self.policy.committed(notes)
        return positions

    def begin_segment(self) -> None:
        """Begin the next segment now, with its opening. Raises as `append` does."""
        if self.failed is not None:
            raise self.failed
        self._begin_segment()
        if self._opening_due:
            self._open_segment()

    def fail(self, error: DwError) -> None:
        """Refuse everything from now on."""
        self.failed = self.failed or error

    def close(self) -> None:
        """Nothing is flushed: what was appended is durable already."""
        if self._file is not None:
            with contextlib.suppress(StorageFailed):
                self._file.close()

    def _put(self, frames: Sequence[Frame]) -> list[Position]:
        file = self._open_file()
        buffers, positions, size = encode_batch(
            frames, sequence=self._sequence, segment=self._segment, offset=self._offset, seed=self._seed
        )
        end = self._offset + size
        self._reserve(file, end)
        try:
            file.write_at(self._offset, buffers)
        except DwError:
            self._take_back(file, self._offset)
            raise
        self._sync(file)
        self._offset = end
        self._sequence += 1
        return positions

    def _reserve(self, file: File, end: int) -> None:
        if end <= self._allocated:
            return
        step = self.policy.allocate_bytes
        target = max(end, min(self.policy.segment_bytes, -(-end // step) * step))
        try:
            file.allocate(target)
        except DwError:
            self._take_back(file, self._allocated)
            raise
        self._allocated = target

    def _take_back(self, file: File, length: int) -> None:
        """Cut what a failed write may have left; if even that fails, the file's content is anybody's guess."""
        try:
            file.truncate(length)
        except DwError as error:
            self.fail(error)
        self._allocated = min(self._allocated, length)

    def _sync(self, file: File) -> None:
        try:
            file.sync()
        except DwError as error:
            self.fail(error)
            raise

    def _begin_segment(self) -> None:
        number = self._segment if self._file is None else self._segment + 1
        file, allocated = self._make_file(number)
        self._sync(file)
        try:
            self._files.sync_directory(self.policy.path(number).parent)
        except DwError as error:
            self.fail(error)
            raise
        self.close()
        self._file = file
        self._segment, self._offset, self._allocated = number, HEADER_BYTES, allocated
        self._seed = segment_seed(self._journal, number)
        self._opening_due = True

    def _make_file(self, number: int) -> tuple[File, int]:
        header = SegmentHeader(
            journal=self._journal,
            segment=number,
            first_sequence=self._sequence,
            content=self.policy.header_content(number),
        )
        page = encode_header(header)
        path = self.policy.path(number)
        allocated = min(self.policy.allocate_bytes, self.policy.segment_bytes)
        file = self._files.open(path, create=True)
        try:
            file.truncate(0)
            file.allocate(allocated)
            file.write_at(0, [page])
        except DwError:
            with contextlib.suppress(StorageFailed):
                file.close()
            with contextlib.suppress(StorageFailed):
                self._files.remove(path)
            raise
        return file, allocated

    def _open_segment(self) -> None:
        frames = self.policy.opening(self._segment)
        if frames:
            self._put(frames)
        self._opening_due = False

    def _open_file(self) -> File:
        if self._file is None:
            raise InvariantViolation("a batch is written only into an open segment")
        return self._file
