"""Reading one segment back: its batches in order, and where its bytes are not what was written.

Looking for a batch after a damaged place tests every multiple of BATCH_ALIGNMENT with one checksum of 20 bytes, so it
costs time proportional to the segment whatever the damaged bytes look like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dwd.base.units import MIB
from dwd.journal.checksum import crc32c
from dwd.journal.frames import (
    BATCH_ALIGNMENT,
    BATCH_HEADER_BYTES,
    BatchHead,
    FrameHeader,
    decode_head,
    decode_shape,
    segment_seed,
)
from dwd.journal.segments import HEADER_BYTES
from dwd.runtime.files import Buffer, File

WINDOW_BYTES = 4 * MIB
"""Read from the file at a time; a batch larger than this is read whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedBatch:
    """A batch that verifies; `payloads` are those of `head.frames`, views into what was read."""

    head: BatchHead
    payloads: tuple[memoryview, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Bytes from `offset` on that are no sound batch. `sequence` is that of the batch expected there.

    If the batch's head is sound, `damaged` are the frames whose payload is not and `sound` the others with their
    payloads; `damaged` is None if nothing is known. `later` is the sequence of the next batch found in this segment,
    None if there is none.
    """

    segment: int
    offset: int
    sequence: int
    damaged: tuple[FrameHeader, ...] | None
    sound: tuple[tuple[FrameHeader, memoryview], ...]
    later: int | None


class SegmentScan:
    """Iterates over a segment's batches and gaps, in order. Afterwards `offset` and `sequence` say where it ended:
    the place and number of the batch that would come next, if the last thing seen was not a gap.
    """

    def __init__(
        self,
        file: File,
        *,
        journal: bytes,
        segment: int,
        sequence: int | None,
        offset: int = HEADER_BYTES,
        sequence_end: int | None = None,
    ) -> None:
        """`sequence` is what the batch at `offset` must have, None if that is not known. Batches from `sequence_end`
        on are none of this segment's: an earlier recovery gave their numbers to the next one.
        """
        self.offset = offset
        self.sequence = sequence or 0
        self._known = sequence is not None
        self._file = file
        self._segment = segment
        self._seed = segment_seed(journal, segment)
        self._size = file.size()
        self._sequence_end = sequence_end
        self._window = b""
        self._window_at = 0

    def __iter__(self) -> Iterator[ScannedBatch | Gap]:
        while not self._superseded() and self.offset < self._size:
            found = self._batch()
            if isinstance(found, ScannedBatch):
                yield found
                self.offset, self.sequence = found.head.end, found.head.sequence + 1
                continue
            if self._is_blank():
                return
            later, gap = self._gap(found)
            yield gap
            if later is None:
                return
            self.offset, self.sequence = later
            self._known = True

    def _superseded(self) -> bool:
        return self._sequence_end is not None and self.sequence >= self._sequence_end

    def _batch(self) -> ScannedBatch | BatchHead | None:
        """The sound batch at `offset`; its head, if only that is sound; None if not even that is."""
        shape = decode_shape(self._read(self.offset, BATCH_HEADER_BYTES), offset=self.offset, seed=self._seed)
        if shape is None or shape.sequence != self.sequence:
            return None
        content = self._read(self.offset, shape.length)
        head = decode_head(shape, content, segment=self._segment, offset=self.offset, seed=self._seed)
        if head is None:
            return None
        payloads = tuple(self._payload(content, frame) for frame in head.frames)
        if any(crc32c(view) != frame.position.crc32c for view, frame in zip(payloads, head.frames, strict=True)):
            return head
        return ScannedBatch(head=head, payloads=payloads)

    def _payload(self, content: memoryview, frame: FrameHeader) -> memoryview:
        start = frame.position.offset - self.offset
        return content[start : start + frame.position.length]

    def _gap(self, head: BatchHead | None) -> tuple[tuple[int, int] | None, Gap]:
        """Where to go on, if anywhere, and what is missing until there. `head` is all that is sound at `offset`."""
        damaged: list[FrameHeader] = []
        sound: list[tuple[FrameHeader, memoryview]] = []
        if head is not None:
            content = self._read(self.offset, head.end - self.offset)
            for frame in head.frames:
                payload = self._payload(content, frame)
                if crc32c(payload) == frame.position.crc32c:
                    sound.append((frame, payload))
                else:
                    damaged.append(frame)
        later = self._find_later(head.end if head is not None else self.offset)
        gap = Gap(
            segment=self._segment,
            offset=self.offset,
            sequence=self.sequence,
            damaged=tuple(damaged) if head is not None else None,
            sound=tuple(sound),
            later=None if later is None else later[1],
        )
        return later, gap

    def _is_blank(self) -> bool:
        """Nothing but zeros from `offset` on: the part of the segment not written yet."""
        at = self.offset
        while at < self._size:
            piece = self._read(at, min(WINDOW_BYTES, self._size - at))
            if piece.nbytes == 0:
                return True
            if not is_blank(piece):
                return False
            at += len(piece)
        return True

    def _find_later(self, start: int) -> tuple[int, int] | None:
        """(offset, sequence) of the first head from `start` on whose number can follow the one expected."""
        sequence_max = self.sequence + (self._size - self.offset) // BATCH_ALIGNMENT if self._known else 1 << 64
        for at in range(start, self._size, BATCH_ALIGNMENT):
            head = self._read(at, BATCH_HEADER_BYTES)
            shape = decode_shape(head, offset=at, seed=self._seed)
            if shape is None or not self.sequence < shape.sequence <= sequence_max:
                continue
            if self._sequence_end is None or shape.sequence < self._sequence_end:
                return at, shape.sequence
        return None

    def _read(self, offset: int, length: int) -> memoryview:
        """Bytes of the file; shorter at its end. Served from a window that moves forward."""
        start = offset - self._window_at
        if start < 0 or start + length > len(self._window):
            wanted = max(length, WINDOW_BYTES)
            self._window, self._window_at = self._file.read_at(offset, wanted), offset
            start = 0
        return memoryview(self._window)[start : start + length]


def is_blank(content: Buffer) -> bool:
    """Nothing but zeros."""
    return bytes(content) == bytes(len(content))
