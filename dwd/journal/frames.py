"""Frames and the batches that hold them: what one durable write looks like on disk, format version 1.

All numbers are big-endian. A batch starts at a multiple of BATCH_ALIGNMENT, so rewriting the end of the file never
touches a sector that holds an acknowledged batch.

    batch    0 sequence u64 | 8 length u32 | 12 frames u32 | 16 crc32c u32 | 20 head crc32c u32
            24 frame header, `frames` times
               payloads, in the order of their headers, without gaps
               zeros up to the next multiple of BATCH_ALIGNMENT (not in `length`)
    header   0 kind u8 | 1 zeros (3) | 4 crc32c u32 of the payload | 8 group u64 | 16 replica u64
            24 payload length u32 | 28 zeros (4)

`length` counts batch header, frame headers and payloads. The batch's crc32c goes over bytes 0-15 and the frame headers,
so through their crc32c values over all of it; it starts from a seed of journal id, segment number and offset, so a
copy of a batch somewhere else - misdirected, left over from another life, or stored as somebody's data - is not one.
Two levels tell a torn head (nothing is known) from a damaged payload (which groups it hit is known), and let one frame
be read and verified without its batch. The head's own crc32c (bytes 0-19, same seed) makes looking for a batch cost one
small checksum a place, whatever the bytes there claim.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from dwd.base.errors import InvariantViolation
from dwd.base.units import MIB
from dwd.journal.checksum import crc32c
from dwd.runtime.files import Buffer

BATCH_ALIGNMENT = 512
FRAME_BYTES_MAX = 6 * MIB
"""One payload: a fragment of a whole block with its story fits."""
BATCH_BYTES_MAX = 32 * MIB
"""What a reader accepts; writers stay below their own, smaller limits."""
FRAMES_PER_BATCH_MAX = 65_536

_BATCH = struct.Struct(">QII")
_BATCH_CRC = struct.Struct(">I")
_FRAME = struct.Struct(">B3xIQQI4x")
BATCH_HEADER_BYTES = _BATCH.size + 2 * _BATCH_CRC.size
FRAME_HEADER_BYTES = _FRAME.size

if FRAME_BYTES_MAX + BATCH_HEADER_BYTES + FRAME_HEADER_BYTES > BATCH_BYTES_MAX:
    raise InvariantViolation("a frame must fit a batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One record. `kind`, `group` and `replica` mean what the user says; `pieces` are written one after another."""

    kind: int
    group: int
    replica: int
    pieces: tuple[Buffer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a frame's payload lies; bytes `offset` to `offset + length` of segment `segment`."""

    segment: int
    offset: int
    length: int
    crc32c: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """A frame as its batch's head describes it; the payload may still prove damaged."""

    kind: int
    group: int
    replica: int
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHead:
    """The verified head of a batch at `offset`; `end` is where the next one starts."""

    sequence: int
    offset: int
    end: int
    frames: tuple[FrameHeader, ...]


def aligned(length: int) -> int:
    """`length` rounded up to a batch boundary."""
    return -(-length // BATCH_ALIGNMENT) * BATCH_ALIGNMENT


def payload_bytes(frame: Frame) -> int:
    return sum(map(len, frame.pieces))


def frame_bytes(frame: Frame) -> int:
    """What `frame` adds to a batch."""
    return FRAME_HEADER_BYTES + payload_bytes(frame)


def segment_seed(journal: bytes, segment: int) -> int:
    """Where the checksums of one segment's batches start."""
    return crc32c(journal + segment.to_bytes(8, "big"))


def encode_batch(
    frames: Sequence[Frame], *, sequence: int, segment: int, offset: int, seed: int
) -> tuple[list[Buffer], list[Position], int]:
    """Buffers to write at `offset`, the position of each frame, and the bytes of it all (padding included)."""
    headers: list[bytes] = []
    buffers: list[Buffer] = [b""]
    positions: list[Position] = []
    at = offset + BATCH_HEADER_BYTES + FRAME_HEADER_BYTES * len(frames)
    for frame in frames:
        crc, length = 0, 0
        for piece in frame.pieces:
            crc = crc32c(piece, crc)
            length += len(piece)
        headers.append(_FRAME.pack(frame.kind, crc, frame.group, frame.replica, length))
        positions.append(Position(segment=segment, offset=at, length=length, crc32c=crc))
        buffers.extend(frame.pieces)
        at += length
    table = b"".join(headers)
    head = _BATCH.pack(sequence, at - offset, len(frames))
    start = _start(seed, offset)
    head += _BATCH_CRC.pack(crc32c(table, crc32c(head, start)))
    buffers[0] = head + _BATCH_CRC.pack(crc32c(head, start)) + table
    padding = aligned(at) - at
    if padding:
        buffers.append(bytes(padding))
    return buffers, positions, at + padding - offset


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """The fixed part of a batch's head, verified by its own checksum."""

    sequence: int
    length: int
    frames: int
    crc32c: int

    @property
    def head_bytes(self) -> int:
        return BATCH_HEADER_BYTES + self.frames * FRAME_HEADER_BYTES


def decode_shape(head: Buffer, *, offset: int, seed: int) -> BatchShape | None:
    """What begins at `offset`, whose first BATCH_HEADER_BYTES are `head`, or None if no batch does."""
    if len(head) < BATCH_HEADER_BYTES:
        return None
    sequence, length, count = _BATCH.unpack_from(head)
    if sequence == 0 or not 0 < count <= FRAMES_PER_BATCH_MAX or length > BATCH_BYTES_MAX:
        return None
    (crc,) = _BATCH_CRC.unpack_from(head, _BATCH.size)
    (stated,) = _BATCH_CRC.unpack_from(head, _BATCH.size + _BATCH_CRC.size)
    if stated != crc32c(bytes(memoryview(head)[: BATCH_HEADER_BYTES - _BATCH_CRC.size]), _start(seed, offset)):
        return None
    return BatchShape(sequence=sequence, length=length, frames=count, crc32c=crc)


def decode_head(shape: BatchShape, head: Buffer, *, segment: int, offset: int, seed: int) -> BatchHead | None:
    """The batch whose first `shape.head_bytes` bytes are `head`, or None if its frame headers do not verify."""
    view = memoryview(head)[: shape.head_bytes]
    if len(view) < shape.head_bytes:
        return None
    table = bytes(view[BATCH_HEADER_BYTES:])
    if shape.crc32c != crc32c(table, crc32c(bytes(view[: _BATCH.size]), _start(seed, offset))):
        return None
    frames: list[FrameHeader] = []
    at = offset + shape.head_bytes
    for kind, crc, group, replica, size in _FRAME.iter_unpack(table):
        position = Position(segment=segment, offset=at, length=size, crc32c=crc)
        frames.append(FrameHeader(kind=kind, group=group, replica=replica, position=position))
        at += size
    if at - offset != shape.length:
        return None
    return BatchHead(sequence=shape.sequence, offset=offset, end=aligned(at), frames=tuple(frames))


def _start(seed: int, offset: int) -> int:
    return crc32c(offset.to_bytes(8, "big"), seed)
