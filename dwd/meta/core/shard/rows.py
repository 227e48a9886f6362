"""Rows of a shard as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from dwd.base.blocks import Handoff, StoredBlock
from dwd.base.ids import BlockId, LayoutEpoch, LogIndex, Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedBlock:
    """A block and the (bucket, key) written beside its fragments: the key that first stored it, also after a copy."""

    stored: StoredBlock
    bucket: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRow:
    """An object without its bytes. `data` is what reads pass back to fetch them."""

    bucket: str
    key: str
    size: int
    etag: str
    modified: Stamp
    changed: LogIndex
    headers: bytes
    checksum: str
    part_count: int
    manifest: int
    """The id of the block lists of a large or multipart object; 0 when inline or its blocks come with the row."""
    inline_bytes: int
    """Length of the sealed inline bytes; -1 when there are none."""
    sealing: bytes = field(default=b"", repr=False)
    """How its bytes are sealed, with the wrapped key; opaque here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRow:
    bucket: str
    key: str
    upload: str
    initiated: Stamp
    headers: bytes
    checksum: str
    sealing: bytes = field(default=b"", repr=False)
    """Of the object it becomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    number: int
    size: int
    etag: str
    checksum: str
    modified: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class GcRow:
    """A block nobody refers to any more. Its fragments lie where its last row said."""

    stored: StoredBlock
    since: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedBlock:
    """A block of a bytes range of an object: it covers [offset, offset + stored.plain_length) of the object, the bytes
    from `within` of what was written as one: the object, or a part, whose salt comes along.
    """

    offset: int
    owned: OwnedBlock
    within: int = 0
    salt: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One item of the change feed: (bucket, key) took this state at `changed`."""

    changed: LogIndex
    stamp: Stamp
    bucket: str
    key: str
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Exact counts of one bucket in this shard."""

    bucket: str
    objects: int
    bytes: int
    uploads: int
    packed: int = 0
    """Bytes of objects that lie in blocks, each block once."""
    stored: int = 0
    """What compression and encryption made of them, before they were coded into fragments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochUse:
    """How many blocks, live or waiting for collection, still name a layout."""

    epoch: LayoutEpoch
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCounts:
    objects: int
    bytes: int
    blocks: int
    not_fully_redundant: int
    gc_waiting: int
    drains_waiting: int
    epochs: tuple[EpochUse, ...] = field(default=())


__all__ = [
    "BlockId",
    "Change",
    "EpochUse",
    "GcRow",
    "Handoff",
    "ObjectRow",
    "OwnedBlock",
    "PartRow",
    "PlacedBlock",
    "ShardCounts",
    "StoredBlock",
    "UploadRow",
    "Usage",
]
