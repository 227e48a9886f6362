"""From an object's bytes to a block's and back: compressed where it pays, then sealed where the bucket asks for it.

`packing`, in the block's row: bits 1 = zstd frames with a table (frames.py), 2 = sealed records (records.py); 0 is the
bytes as they are. Order: compress, seal, erasure-encode. Reading goes back from the byte range: frames by the table,
records by the frames, pages of fragments by the records.

Invariants: whatever the row says, bytes come out that were put in, or Corrupt is raised.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dwd.base.errors import Corrupt, InvariantViolation, VersionRefused
from dwd.base.limits import BLOCK_BYTES, PACKED_BLOCK_BYTES_MAX
from dwd.base.units import KIB
from dwd.objects.core import frames
from dwd.objects.core.records import RecordSeal, sealed_length, unsealed_length
from dwd.runtime.files import Buffer

ZSTD = 1
SEALED = 2
_KNOWN = ZSTD | SEALED
SAVING_MIN = 0.05
"""A compressed block is kept when it saves this share."""
COMPRESS_BYTES_MIN = 512
"""Below, the table eats what is saved."""
SAMPLE_BYTES = 8 * KIB
SAMPLES = 4
"""A block is tried on this many samples of it first: bytes that are packed already cost a hundredth of a try."""

if sealed_length(BLOCK_BYTES) > PACKED_BLOCK_BYTES_MAX:
    raise InvariantViolation("a sealed block must fit its limit")

_PACKED_TYPES = (
    "audio/", "video/", "image/", "font/woff", "application/zip", "application/gzip", "application/x-gzip",
    "application/zstd", "application/x-7z-compressed", "application/x-bzip", "application/x-rar", "application/x-xz",
    "application/vnd.rar", "application/vnd.openxmlformats", "application/epub+zip", "application/java-archive",
    "application/vnd.android.package-archive", "application/x-brotli",
)  # fmt: skip
_LOOSE_TYPES = ("image/svg", "image/bmp", "image/x-ms-bmp", "audio/wav", "audio/x-wav", "image/tiff")
"""Of those, what is not packed."""


def is_packed_type(content_type: str, content_encoding: str) -> bool:
    """Whether a client says that these bytes were compressed before."""
    if content_encoding and content_encoding.lower() != "identity":
        return True
    kind = content_type.lower()
    return kind.startswith(_PACKED_TYPES) and not kind.startswith(_LOOSE_TYPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    data: Buffer
    packing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Packer:
    """What is done to all blocks of one upload. `level` 0: not compressed; `cipher` None: not sealed."""

    level: int
    cipher: AESGCM | None

    def pack(self, data: Buffer, position: int) -> Packed:
        """The block that begins at `position`: once only, by the invariant of records.py. Long work: for a thread."""
        pieces: list[Buffer] = [data]
        packing, length = 0, len(data)
        if self.level and length >= COMPRESS_BYTES_MIN and _saves(data):
            found = frames.compress(data, self.level, length_max=int(length * (1 - SAVING_MIN)))
            if found is not None:
                pieces, packing, length = list(found), ZSTD, sum(map(len, found))
        if self.cipher is not None:
            packing |= SEALED
            seal = RecordSeal(
                cipher=self.cipher, packing=packing, position=position, plain_length=len(data), length=length
            )
            return Packed(data=seal.seal(pieces), packing=packing)
        return Packed(data=pieces[0] if len(pieces) == 1 else b"".join(pieces), packing=packing)


def _saves(data: Buffer) -> bool:
    """Whether samples of the block say that compressing it pays."""
    view = memoryview(data)
    if len(view) <= SAMPLES * SAMPLE_BYTES:
        return True
    step = (len(view) - SAMPLE_BYTES) // (SAMPLES - 1)
    sample = b"".join(view[number * step : number * step + SAMPLE_BYTES] for number in range(SAMPLES))
    return frames.compress(sample, 1, length_max=int(len(sample) * (1 - SAVING_MIN))) is not None


class PackedBlock:
    """A stored block to be read: which of its bytes are needed for a range, and the range from those bytes."""

    def __init__(self, *, packing: int, length: int, plain_length: int, position: int, cipher: AESGCM | None) -> None:
        """Raises VersionRefused for a packing that is not known, Corrupt where the lengths cannot be."""
        if packing & ~_KNOWN:
            raise VersionRefused("objects.packing_unknown", f"a block is packed in a way unknown here ({packing})")
        if bool(packing & SEALED) != (cipher is not None):
            raise Corrupt("objects.sealing_differs", "an object and its block do not agree on whether it is sealed")
        self._length, self._plain_length = length, plain_length
        self._is_compressed = bool(packing & ZSTD)
        self._stream_length = unsealed_length(length) if cipher is not None else length
        self._seal: RecordSeal | None = None
        if cipher is not None:
            self._seal = RecordSeal(
                cipher=cipher, packing=packing, position=position, plain_length=plain_length, length=self._stream_length
            )
        if not 0 < plain_length <= BLOCK_BYTES or (not self._is_compressed and self._stream_length != plain_length):
            raise Corrupt("objects.block_length", f"a block of {length} bytes does not hold {plain_length}")
        if self._is_compressed and self._stream_length <= frames.table_length(plain_length):
            raise Corrupt("objects.block_length", f"a compressed block of {length} bytes has no room for its table")

    def table_span(self) -> tuple[int, int] | None:
        """The bytes that `read_table` wants before a part of the block can be read; None when it needs no table."""
        if not self._is_compressed:
            return None
        return self._sealed_span(*self._table())

    def read_table(self, data: Buffer) -> frames.Frames:
        """From the bytes of `table_span`. Raises Corrupt."""
        start, end = self._table()
        return frames.read_table(
            self._open(data, start, end), plain_length=self._plain_length, stream_length=self._stream_length
        )

    def span(self, start: int, end: int, table: frames.Frames | None) -> tuple[int, int]:
        """The bytes of the block that hold the plain bytes [start, end); without a table, of a whole block."""
        if self._is_compressed:
            if table is None:
                return 0, self._length
            start, end = table.span(start, end)
        return self._sealed_span(start, end)

    def unpack(self, data: Buffer, start: int, end: int, table: frames.Frames | None) -> Buffer:
        """The plain bytes [start, end) from those of `span`. Raises Corrupt. Long work: for a thread."""
        if not self._is_compressed:
            return self._open(data, start, end)
        if table is None:
            stream = self._open(data, 0, self._stream_length)
            tail, _ = self._table()
            table = frames.read_table(
                memoryview(stream)[tail:], plain_length=self._plain_length, stream_length=self._stream_length
            )
            first, last = table.span(start, end)
            return table.unpack(memoryview(stream)[first:last], start, end)
        return table.unpack(self._open(data, *table.span(start, end)), start, end)

    def _table(self) -> tuple[int, int]:
        return self._stream_length - frames.table_length(self._plain_length), self._stream_length

    def _sealed_span(self, start: int, end: int) -> tuple[int, int]:
        return (start, end) if self._seal is None else self._seal.span(start, end)

    def _open(self, data: Buffer, start: int, end: int) -> Buffer:
        if self._seal is not None:
            return self._seal.open(data, start, end)
        if len(data) != end - start:
            raise Corrupt("objects.block_length", f"{len(data)} bytes of a block came instead of {end - start}")
        return data
