"""Segments: the files a journal consists of, their headers, and what each user decides about them.

A segment is a header page and then batches, up to zeros or the end of the file. Header, format version 1, big-endian:

     0 magic "dwd-jrnl" | 8 format version u16 | 10 zeros (2) | 12 content length u32
    16 journal id (16) | 32 segment number u64 | 40 first sequence u64 | 48 zeros (4)
    52 crc32c u32 over bytes 0-51 and the content | 56 content, the user's | zeros up to HEADER_BYTES

The header is durable, under a durable name, before the first batch is written. So a segment whose header does not
verify and that holds nothing else was being made when the power went; one that holds anything is damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dwd.base.errors import Corrupt, InvalidArgument, VersionRefused
from dwd.journal.checksum import crc32c
from dwd.journal.frames import Frame
from dwd.runtime.files import Buffer

FORMAT_VERSION = 1
HEADER_BYTES = 4096
JOURNAL_ID_BYTES = 16

_MAGIC = b"dwd-jrnl"
_FIXED = struct.Struct(">8sH2xI16sQQ4x")
_CRC = struct.Struct(">I")
_CONTENT_AT = _FIXED.size + _CRC.size
HEADER_CONTENT_BYTES_MAX = HEADER_BYTES - _CONTENT_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """Identity of one segment. `journal` is random, chosen once for all segments of one journal."""

    journal: bytes
    segment: int
    first_sequence: int
    content: bytes = b""


class SegmentPolicy(Protocol):
    """What each user decides about segments. The writer's worker thread calls it, never two at once."""

    @property
    def segment_bytes(self) -> int:
        """Size of a full segment; a batch that would cross it begins the next one."""
        ...

    @property
    def allocate_bytes(self) -> int:
        """Preallocate this much at a time; `segment_bytes` for all at once."""
        ...

    def path(self, segment: int) -> Path: ...

    def header_content(self, segment: int) -> bytes:
        """What the user keeps in the header, at most HEADER_CONTENT_BYTES_MAX."""
        ...

    def opening(self, segment: int) -> Sequence[Frame]:
        """Frames every new segment begins with, in a batch of their own, durable before any other. May be empty."""
        ...

    def committed(self, notes: Sequence[object]) -> None:
        """Everything submitted with `notes` is durable, in this order; called before anyone waiting hears of it, so
        that `opening` can speak of exactly what is in earlier segments.
        """
        ...


def encode_header(header: SegmentHeader) -> bytes:
    """HEADER_BYTES bytes. Raises InvalidArgument when the content is too long."""
    if len(header.journal) != JOURNAL_ID_BYTES or len(header.content) > HEADER_CONTENT_BYTES_MAX:
        raise InvalidArgument("journal.header", "journal id or header content of the wrong size")
    fixed = _FIXED.pack(
        _MAGIC, FORMAT_VERSION, len(header.content), header.journal, header.segment, header.first_sequence
    )
    crc = _CRC.pack(crc32c(header.content, crc32c(fixed)))
    return (fixed + crc + header.content).ljust(HEADER_BYTES, b"\0")


def decode_header(page: Buffer) -> SegmentHeader:
    """Raises Corrupt, or VersionRefused for a sound header of a later format."""
    if len(page) < HEADER_BYTES:
        raise Corrupt("journal.header", "segment header is cut short")
    magic, version, length, journal, segment, first = _FIXED.unpack_from(page)
    (crc,) = _CRC.unpack_from(page, _FIXED.size)
    content = bytes(memoryview(page)[_CONTENT_AT : _CONTENT_AT + length])
    if magic != _MAGIC or length > HEADER_CONTENT_BYTES_MAX:
        raise Corrupt("journal.header", "not a segment header")
    if crc != crc32c(content, crc32c(bytes(memoryview(page)[: _FIXED.size]))):
        raise Corrupt("journal.header", "segment header fails its checksum", segment=segment)
    if version > FORMAT_VERSION:
        raise VersionRefused(
            "journal.version",
            f"segment {segment} has format {version}, this daemon reads up to {FORMAT_VERSION}",
            hint="start the newer daemon on this data",
            segment=segment,
        )
    return SegmentHeader(journal=journal, segment=segment, first_sequence=first, content=content)
