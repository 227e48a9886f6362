"""Compressed blocks: zstd frames of 256 KiB each, and a table that says where each one lies.

    stream: frame* table
    frame:  one zstd frame (RFC 8878), its header telling how many bytes it unpacks to
    table:  [4 magic 0x184D2A5E][4 bytes that follow] frames x [4 compressed][4 plain]
            [4 frames][1 descriptor = 0][4 magic 0x8F92EAB1]                                    little-endian

Any zstd tool unpacks a stream: to it the table is a frame to skip. A range is read by the table and the frames it
touches.

Hazard: a frame's header names the size it unpacks to, and memory is taken by it: it is compared with the table first,
whose sizes follow from the block's length.
Source: RFC 8878; "Zstandard Seekable Format" 0.1.0 (zstd contrib/seekable_format).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import zstandard

from dwd.base.errors import Corrupt
from dwd.base.units import KIB
from dwd.runtime.files import Buffer

FRAME_BYTES = 256 * KIB
"""Of plain bytes, but for the last one. Measured in docs/adr/0010: larger frames save at most another 4 %."""
LEVEL_MAX = 19

_HEAD = struct.Struct("<II")
_ENTRY = struct.Struct("<II")
_FOOT = struct.Struct("<IBI")
_SKIPPABLE = 0x184D2A5E
_SEEKABLE = 0x8F92EAB1


def frame_count(plain_length: int) -> int:
    return -(-plain_length // FRAME_BYTES)


def table_length(plain_length: int) -> int:
    """Bytes of the table behind so many plain bytes."""
    return _HEAD.size + frame_count(plain_length) * _ENTRY.size + _FOOT.size


def compress(data: Buffer, level: int, *, length_max: int) -> list[bytes] | None:
    """The pieces of the stream, or None as soon as it is longer than `length_max`. Releases the GIL."""
    view = memoryview(data)
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
    left = length_max - table_length(len(view))
    pieces: list[bytes] = []
    entries: list[bytes] = []
    for start in range(0, len(view), FRAME_BYTES):
        plain = view[start : start + FRAME_BYTES]
        frame = compressor.compress(plain)
        left -= len(frame)
        if left < 0:
            return None
        pieces.append(frame)
        entries.append(_ENTRY.pack(len(frame), len(plain)))
    head = _HEAD.pack(_SKIPPABLE, len(entries) * _ENTRY.size + _FOOT.size)
    pieces.append(b"".join((head, *entries, _FOOT.pack(len(entries), 0, _SEEKABLE))))
    return pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Where the frames of a stream lie: `starts` has one more than there are frames."""

    starts: tuple[int, ...]
    plain_length: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Bytes [first, last) of the stream that hold the plain bytes [start, end), which are not none."""
        return self.starts[start // FRAME_BYTES], self.starts[frame_count(end)]

    def unpack(self, data: Buffer, start: int, end: int) -> Buffer:
        """The plain bytes [start, end), from the bytes of the stream that `span` names. Raises Corrupt."""
        view, first, last = memoryview(data), start // FRAME_BYTES, frame_count(end)
        base = self.starts[first]
        decompressor = zstandard.ZstdDecompressor()
        pieces = [
            self._frame(decompressor, view[self.starts[number] - base : self.starts[number + 1] - base], number)
            for number in range(first, last)
        ]
        if end < min(last * FRAME_BYTES, self.plain_length):
            pieces[-1] = memoryview(pieces[-1])[: end - (last - 1) * FRAME_BYTES]
        if start > first * FRAME_BYTES:
            pieces[0] = memoryview(pieces[0])[start - first * FRAME_BYTES :]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _frame(self, decompressor: zstandard.ZstdDecompressor, frame: memoryview, number: int) -> Buffer:
        wanted = min(FRAME_BYTES, self.plain_length - number * FRAME_BYTES)
        try:
            told = zstandard.get_frame_parameters(frame).content_size
            plain = decompressor.decompress(frame, max_output_size=wanted) if told == wanted else b""
        except zstandard.ZstdError as error:
            raise Corrupt("objects.frame_damaged", "a compressed frame cannot be unpacked") from error
        if len(plain) != wanted:
            raise Corrupt("objects.frame_damaged", f"a frame holds {len(plain)} bytes, not {wanted}")
        return plain


def read_table(table: Buffer, *, plain_length: int, stream_length: int) -> Frames:
    """The last `table_length(plain_length)` bytes of a stream, understood. Raises Corrupt unless every size in it
    agrees with those of the block.
    """
    frames = frame_count(plain_length)
    if len(table) != table_length(plain_length):
        raise _damaged()
    view = memoryview(table)
    if _HEAD.unpack_from(view) != (_SKIPPABLE, frames * _ENTRY.size + _FOOT.size):
        raise _damaged()
    if _FOOT.unpack_from(view, len(view) - _FOOT.size) != (frames, 0, _SEEKABLE):
        raise _damaged()
    starts = [0]
    for number, (compressed, plain) in enumerate(_ENTRY.iter_unpack(view[_HEAD.size : len(view) - _FOOT.size])):
        if not compressed or plain != min(FRAME_BYTES, plain_length - number * FRAME_BYTES):
            raise _damaged()
        starts.append(starts[-1] + compressed)
    if starts[-1] + len(view) != stream_length:
        raise _damaged()
    return Frames(starts=tuple(starts), plain_length=plain_length)


def _damaged() -> Corrupt:
    return Corrupt("objects.frame_table_damaged", "the table of a compressed block does not fit the block")
