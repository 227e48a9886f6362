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


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRow:
    bucket: str
    key: str
    upload: str
    initiated: Stamp
    headers: bytes
    checksum: str


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
    """A block of a bytes range of an object: it covers [offset, offset + stored.length) of the object."""

    offset: int
    owned: OwnedBlock


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


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochUse:
    """How many block rows still name a layout."""

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
