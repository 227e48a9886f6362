"""A fragment as it lies in a volume and travels between nodes: its own story, checksums per page, then its bytes.

Layout (big-endian), version 1; the payload of one journal frame of kind FRAGMENT:

     0 version u8 | 1 index u8 | 2 data u8 | 3 parity u8 | 4 kind u8 (0 copies, 1 Reed-Solomon) | 5 bucket length u8
     6 key length u16 | 8 block id (16) | 24 block length u32 | 28 block crc32c u32 | 32 fragment length u32
    36 partition u32 | 40 layout epoch u64
    48 bucket, key (UTF-8) | crc32c u32 of each page of PAGE_BYTES | crc32c u32 of all before
       the fragment's bytes

A frame of kind TOMBSTONE holds keys of 17 bytes: block id, index.

The story names the block and the scheme, so a fragment that is stale, swapped or of another block is recognised
before its bytes are used; pages let a range read verify only what it touches.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from sys import byteorder

from dwd.base.errors import Corrupt, VersionRefused
from dwd.base.ids import BLOCK_ID_BYTES, BlockId, LayoutEpoch
from dwd.base.units import KIB
from dwd.blocks.core.profiles import Kind, Profile
from dwd.blocks.ports import Owner
from dwd.journal.checksum import crc32c
from dwd.runtime.files import Buffer

FRAME_FRAGMENT = 1
FRAME_TOMBSTONE = 2
PAGE_BYTES = 64 * KIB

_VERSION = 1
_FIXED = struct.Struct(">5BBH16sIIIIQ")
_CRC = struct.Struct(">I")
_KINDS = (Kind.COPIES, Kind.REED_SOLOMON)
_KEY = struct.Struct(">16sB")


@dataclass(frozen=True, slots=True)
class FragmentKey:
    """Positional: made by the thousand."""

    block: BlockId
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentHead:
    """What a fragment says of itself. `size` is the head's own encoded length."""

    key: FragmentKey
    scheme: str
    block_length: int
    block_crc32c: int
    length: int
    partition: int
    layout_epoch: LayoutEpoch
    owner: Owner
    pages: array[int]
    size: int
    raw: bytes = field(default=b"", repr=False, compare=False)
    """The head as it was encoded, to be passed on."""


def page_checksums(content: Buffer) -> array[int]:
    view = memoryview(content).cast("B") if len(content) else memoryview(b"")
    return array("I", [crc32c(view[at : at + PAGE_BYTES]) for at in range(0, len(view), PAGE_BYTES)])


def encode_head(
    *,
    key: FragmentKey,
    profile: Profile,
    block_length: int,
    block_crc32c: int,
    length: int,
    partition: int,
    layout_epoch: LayoutEpoch,
    owner: Owner,
    pages: array[int],
) -> bytes:
    """The bytes before the fragment's own."""
    bucket, name = owner.bucket.encode(), owner.key.encode()
    fixed = _FIXED.pack(
        _VERSION,
        key.index,
        profile.data,
        profile.parity,
        _KINDS.index(profile.kind),
        len(bucket),
        len(name),
        key.block,
        block_length,
        block_crc32c,
        length,
        partition,
        layout_epoch,
    )
    sums = array("I", pages)
    if byteorder == "little":
        sums.byteswap()
    body = b"".join((fixed, bucket, name, sums.tobytes()))
    return body + _CRC.pack(crc32c(body))


def head_size(raw: Buffer) -> int:
    """Length of the head that begins here, unverified. Raises Corrupt when `raw` cannot hold its fixed part."""
    if len(raw) < _FIXED.size:
        raise Corrupt("blocks.fragment_head", "fragment is cut short")
    fields = _FIXED.unpack_from(raw)
    return _FIXED.size + int(fields[5]) + int(fields[6]) + 4 * _page_count(fields[10]) + _CRC.size


def decode_head(raw: Buffer) -> FragmentHead:
    """The verified head at the start of `raw`. Raises Corrupt, VersionRefused."""
    size = head_size(raw)
    if len(raw) < size:
        raise Corrupt("blocks.fragment_head", "fragment head is cut short")
    view = memoryview(raw)
    if crc32c(bytes(view[: size - _CRC.size])) != _CRC.unpack_from(raw, size - _CRC.size)[0]:
        raise Corrupt("blocks.fragment_head", "fragment head fails its checksum")
    version, index, data, parity, kind, bucket, name, block, whole, crc, length, partition, epoch = _FIXED.unpack_from(
        raw
    )
    if version != _VERSION:
        raise VersionRefused("blocks.fragment_version", f"fragment of version {version}", version=version)
    at = _FIXED.size
    names = bytes(view[at : at + bucket + name])
    sums = array("I")
    sums.frombytes(bytes(view[at + bucket + name : size - _CRC.size]))
    if byteorder == "little":
        sums.byteswap()
    return FragmentHead(
        key=FragmentKey(BlockId(block), index),
        scheme=Profile(name="", kind=_KINDS[kind], data=data, parity=parity).scheme,
        block_length=whole,
        block_crc32c=crc,
        length=length,
        partition=partition,
        layout_epoch=LayoutEpoch(epoch),
        owner=Owner(bucket=names[:bucket].decode(), key=names[bucket:].decode()),
        pages=sums,
        size=size,
        raw=bytes(view[:size]),
    )


def verify_pages(head: FragmentHead, content: Buffer, *, first_page: int = 0) -> None:
    """Check whole pages of a fragment, `content` starting at `first_page`. Raises Corrupt."""
    view = memoryview(content).cast("B") if len(content) else memoryview(b"")
    for number, at in enumerate(range(0, len(view), PAGE_BYTES), first_page):
        if crc32c(view[at : at + PAGE_BYTES]) != head.pages[number]:
            raise Corrupt(
                "blocks.page_checksum",
                f"page {number} of fragment {head.key.index} of block {head.key.block.hex()} fails its checksum",
                block=head.key.block.hex(),
                index=head.key.index,
            )


def encode_keys(keys: Iterable[FragmentKey]) -> bytes:
    return b"".join(_KEY.pack(key.block, key.index) for key in keys)


def decode_keys(raw: Buffer) -> Sequence[FragmentKey]:
    if len(raw) % _KEY.size:
        raise Corrupt("blocks.keys", "a list of fragment keys is cut short")
    return [FragmentKey(BlockId(block), index) for block, index in _KEY.iter_unpack(raw)]


def _page_count(length: int) -> int:
    return -(-length // PAGE_BYTES)


KEY_BYTES = BLOCK_ID_BYTES + 1
