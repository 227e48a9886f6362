"""Questions to a shard. Pages are bounded by `limit` and by QUERY_PAGE_MAX, whichever is less."""

from __future__ import annotations

from dataclasses import dataclass, field

from dwd.base.ids import BlockId, JobId, LayoutEpoch, LogIndex, Stamp
from dwd.meta.core.fencing import Fence
from dwd.meta.core.query import Query
from dwd.meta.core.shard.rows import (
    Change,
    GcRow,
    ObjectRow,
    OwnedBlock,
    PartRow,
    PlacedBlock,
    ShardCounts,
    UploadRow,
    Usage,
)

QUERY_PAGE_MAX = 1_000
FROM_THE_START = BlockId(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectAnswer:
    """`object` None: there is none. `inline` as stored (sealed). `blocks` are the first of the wanted range, in order,
    with `more` when the range goes on: ask GetBlocks with the row's manifest from where they end.
    """

    object: ObjectRow | None
    inline: bytes | None = field(default=None, repr=False)
    blocks: tuple[PlacedBlock, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadObject(Query[ObjectAnswer]):
    """The row alone."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GetObject(Query[ObjectAnswer]):
    """The row with inline bytes or up to `limit` blocks that cover the bytes from `offset` to `offset + length`

    (`length` -1: to the end; `suffix` >= 0: the last so many bytes instead).
    """

    bucket: str
    key: str
    offset: int = 0
    length: int = -1
    suffix: int = -1
    limit: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksAnswer:
    """In order of offset."""

    blocks: tuple[PlacedBlock, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBlocks(Query[BlocksAnswer]):
    """More blocks of a manifest that an ObjectAnswer named. Raises NotFound meta.no_such_manifest: the object was
    replaced and its blocks are going.
    """

    bucket: str
    key: str
    manifest: int
    offset: int
    length: int
    limit: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBounds:
    """Bytes [offset, offset + size) of an object are its part."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBoundsAnswer:
    part: PartBounds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPartBounds(Query[PartBoundsAnswer]):
    """Where part `number` (from 1, in order of the parts) of a multipart object lies. None: no such part."""

    bucket: str
    key: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAnswer:
    """Both in UTF-8 byte order. `next_after` is the greatest of both when truncated: pass it as `after`."""

    objects: tuple[ObjectRow, ...]
    prefixes: tuple[str, ...]
    truncated: bool
    next_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListObjects(Query[ListAnswer]):
    """Objects and common prefixes greater than `after`, together at most `limit`."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    limit: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadAnswer:
    upload: UploadRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetUpload(Query[UploadAnswer]):
    bucket: str
    key: str
    upload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsAnswer:
    """Uploads by (key, initiated, upload), and common prefixes."""

    uploads: tuple[UploadRow, ...]
    prefixes: tuple[str, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListUploads(Query[UploadsAnswer]):
    """Those after (after_key, after_upload); an empty `after_upload` skips all of `after_key`."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    after_key: str = ""
    after_upload: str = ""
    limit: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsAnswer:
    """`upload` None: there is no such upload."""

    upload: UploadRow | None
    parts: tuple[PartRow, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListParts(Query[PartsAnswer]):
    """Parts with a number greater than `after`."""

    bucket: str
    key: str
    upload: str
    after: int = 0
    limit: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageAnswer:
    buckets: tuple[Usage, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GetUsage(Query[UsageAnswer]):
    """Of one bucket, or a page of all after `after` when `bucket` is empty."""

    bucket: str = ""
    after: str = ""
    limit: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCounts(Query[ShardCounts]):
    """For the status; O(buckets)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcAnswer:
    rows: tuple[GcRow, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GcPage(Query[GcAnswer]):
    """Blocks to collect that were given up before `before`, by block id after `after`."""

    before: Stamp
    after: BlockId = FROM_THE_START
    limit: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPageAnswer:
    """By (placement bits, id). `more`: pass the last id as `after`."""

    blocks: tuple[OwnedBlock, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairPage(Query[BlockPageAnswer]):
    """Blocks with hand-offs or missing fragments, or in another profile than wanted, after `after`."""

    after: BlockId = FROM_THE_START
    limit: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPage(Query[BlockPageAnswer]):
    """Blocks whose 16 placement bits are in [first, last], after `after`."""

    first: int
    last: int
    after: BlockId = FROM_THE_START
    limit: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketBlocksAnswer:
    """What a stretch of `scanned` rows holds of a bucket, by (placement bits, id). `more`: go on after `next_after`."""

    blocks: tuple[OwnedBlock, ...]
    scanned: int
    next_after: BlockId
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketBlocks(Query[BucketBlocksAnswer]):
    """Blocks of one bucket among the next `scan` rows after `after`: no index serves this, a walk over all does."""

    bucket: str
    after: BlockId = FROM_THE_START
    scan: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FindBlocks(Query[BlockPageAnswer]):
    """Those of `blocks` that exist here, in the order asked. What is not answered is no block of this shard."""

    blocks: tuple[BlockId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCount:
    """Blocks of one scheme whose partition has the (rank + 1)th of the devices asked for at `slot` of its list.
    `bytes` are the blocks'.
    """

    profile: str
    rank: int
    slot: int
    blocks: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCounts:
    counts: tuple[PlacedCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountPlaced(Query[PlacedCounts]):
    """How many blocks of a layout have fragments on certain devices, counted where the rows are. `slots[r]` has a byte
    for each partition: the place in its list of the (r + 1)th of these devices, 255 when there are no more. Blocks
    that await repair are not counted: RepairPage shows them.
    """

    epoch: LayoutEpoch
    partitions: int
    slots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesAnswer:
    """In order of the log. `next_after` continues, also when nothing came."""

    changes: tuple[Change, ...]
    next_after: LogIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesPage(Query[ChangesAnswer]):
    """The change feed after log index `after`: the latest state of every key changed since. Raises Conflict
    meta.feed_truncated when deletions after `after` were forgotten: start over with a full listing.
    """

    after: LogIndex
    limit: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FencesAnswer:
    """By job."""

    floor: JobId
    fences: tuple[Fence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetFences(Query[FencesAnswer]):
    """The jobs that this shard remembers, but for those it knows to be over."""


KeyedQuery = HeadObject | GetObject | GetBlocks | GetPartBounds | GetUpload | ListParts
"""Queries that the router sends to the owner of their (bucket, key)."""
