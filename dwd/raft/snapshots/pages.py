"""Pages of snapshot files by their hashes: which of them the other end has already.

Both ends cut the file into pages of PAGE_BYTES, those of the databases; the last one may be shorter. A page is named by
HASH_BYTES of SHA-256: on today's processors the fastest of hashlib, which lets other threads run meanwhile. What
names the whole file is the hash of its size and of all its pages' hashes, so one pass over a file gives both.
Source: the idea of SQLite's sqlite3_rsync. Invariant: nothing here holds more of a file in memory than a slice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dwd.base.errors import InvariantViolation, StorageFailed
from dwd.base.limits import CHUNK_BYTES, MESSAGE_BYTES_MAX
from dwd.base.units import KIB, MIB
from dwd.runtime.os_files import translated

PAGE_BYTES = 4 * KIB
"""Part of the protocol."""
HASH_BYTES = 16
"""Part of the protocol: with 128 bits, two pages that differ and hash alike do not happen."""
RANGE_BYTES = 64 * MIB
"""What a receiver asks for at a time."""
SLICE_BYTES = 1 * MIB
"""What is read and hashed at a time."""

if (
    RANGE_BYTES // PAGE_BYTES * HASH_BYTES * 2 > MESSAGE_BYTES_MAX
    or CHUNK_BYTES % PAGE_BYTES
    or SLICE_BYTES % PAGE_BYTES
):
    raise InvariantViolation("the hashes of a range must fit a message, and chunks and slices hold whole pages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Bytes [offset, offset + length) of a file; begins with a page, ends with one or with the file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def hash_pages(content: bytes | memoryview) -> bytes:
    """HASH_BYTES for each page of `content`, which begins with a page."""
    view, sha256 = memoryview(content), hashlib.sha256
    return b"".join(
        [sha256(view[at : at + PAGE_BYTES]).digest()[:HASH_BYTES] for at in range(0, len(view), PAGE_BYTES)]
    )


def hash_extent(path: Path, extent: Extent) -> bytes:
    """The hashes of what `path` has of `extent`; none if it is not there. Blocking. Raises StorageFailed."""
    if extent.length <= 0 or not path.exists():
        return b""
    return b"".join(hash_pages(piece) for piece in read_slices(path, extent))


def write_hashes(path: Path, hashes: Path) -> tuple[int, bytes]:
    """Write the hashes of all pages of `path` to `hashes`; the size of `path` and its digest. Blocking.
    Raises NoSpace, StorageFailed.
    """
    digest, size = hashlib.sha256(), 0
    with _translating(path), hashes.open("wb") as out:
        for piece in read_slices(path, Extent(offset=0, length=path.stat().st_size)):
            named = hash_pages(piece)
            digest.update(named)
            out.write(named)
            size += len(piece)
    return size, _sealed(digest, size)


def file_digest(path: Path, size: int) -> bytes:
    """What names the first `size` bytes of `path`. Blocking. Raises StorageFailed."""
    digest, seen = hashlib.sha256(), 0
    for piece in read_slices(path, Extent(offset=0, length=size)):
        digest.update(hash_pages(piece))
        seen += len(piece)
    return _sealed(digest, seen)


def read_hashes(hashes: Path, extent: Extent) -> bytes:
    """What `write_hashes` wrote of the pages of `extent`. Blocking. Raises StorageFailed."""
    first, last = extent.offset // PAGE_BYTES, -(-extent.end // PAGE_BYTES)
    with _translating(hashes), hashes.open("rb") as file:
        file.seek(first * HASH_BYTES)
        return file.read((last - first) * HASH_BYTES)


def differing(extent: Extent, own: bytes, others: bytes) -> Iterator[Extent]:
    """The parts of `extent` whose pages' hashes are not the same in `own` and `others`, which may be shorter. Each of
    at most CHUNK_BYTES, in order.
    """
    began = None
    for at in range(0, len(own), HASH_BYTES):
        offset = extent.offset + at // HASH_BYTES * PAGE_BYTES
        same = own[at : at + HASH_BYTES] == others[at : at + HASH_BYTES]
        if began is not None and (same or offset - began >= CHUNK_BYTES):
            yield Extent(offset=began, length=offset - began)
            began = None
        if not same and began is None:
            began = offset
    if began is not None:
        yield Extent(offset=began, length=extent.end - began)


def grouped(extents: Iterator[Extent]) -> Iterator[list[Extent]]:
    """`extents` in groups of at most CHUNK_BYTES: what one message carries."""
    group: list[Extent] = []
    size = 0
    for extent in extents:
        if group and size + extent.length > CHUNK_BYTES:
            yield group
            group, size = [], 0
        group.append(extent)
        size += extent.length
    if group:
        yield group


def read_slices(path: Path, extent: Extent) -> Iterator[bytes]:
    """What `path` has of `extent`, in slices. Blocking. Raises StorageFailed."""
    with _translating(path), path.open("rb") as file:
        file.seek(extent.offset)
        left = extent.length
        while left > 0 and (piece := file.read(min(SLICE_BYTES, left))):
            left -= len(piece)
            yield piece


def read_extents(path: Path, extents: list[Extent]) -> bytes:
    """The bytes of `extents` one after another. Blocking. Raises StorageFailed, also if the file is shorter."""
    with _translating(path), path.open("rb") as file:
        parts = []
        for extent in extents:
            file.seek(extent.offset)
            parts.append(file.read(extent.length))
    data = b"".join(parts)
    if len(data) != sum(extent.length for extent in extents):
        raise StorageFailed("raft.snapshot_short", "a copy is shorter than it was when made")
    return data


@contextmanager
def _translating(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise translated(error, f"reading or hashing {path.name}") from error


def _sealed(digest: hashlib._Hash, size: int) -> bytes:
    digest.update(size.to_bytes(8, "big"))
    return digest.digest()
