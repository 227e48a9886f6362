"""Commands of a shard. Ids that must be unique (uploads, block lists) are chosen at random by the proposer.

`bucket_epoch` is the epoch of the bucket's row in control that the proposer looked at: a shard that was told of a
newer one refuses (Conflict meta.bucket_stale, retryable after a fresh look), a sealed one with Busy meta.bucket_sealed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dwd.base.blocks import StoredBlock
from dwd.base.ids import BlockId, JobId, LayoutEpoch, Stamp

INLINE_BLOCKS_MAX = 64
"""Blocks a command may carry; an object of more stages them in a list first."""
PARTS_MAX = 10_000
SEALING_BYTES_MAX = 512
SALT_BYTES_MAX = 32
PART_BYTES_MIN = 5 * 1024 * 1024
"""Of every part but the last."""
NEVER = Stamp(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """Etags without quotes; "*" = any. Refused: Conflict objects.precondition_failed, NotFound objects.no_such_key
    (If-Match where there is no object).
    """

    if_match: tuple[str, ...] = ()
    if_none_match: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutObject:
    """Make (bucket, key) this object; what it was before goes to the collector. Exactly one source of bytes:
    `inline` (sealed; `size` is of the plain bytes), `blocks` (<= INLINE_BLOCKS_MAX) or `staged` (a list filled by
    StageBlocks) followed by `blocks`. Lengths must add up to `size`. Receipt.existed: it replaced one.
    Refused: precondition; Conflict meta.block_exists, meta.block_too_old; NotFound meta.no_such_list.
    """

    bucket: str
    key: str
    bucket_epoch: int
    size: int
    etag: str
    headers: bytes = b""
    """Opaque here, at most HEADERS_BYTES_MAX."""
    checksum: str = ""
    """Opaque here."""
    inline: bytes | None = field(default=None, repr=False)
    blocks: tuple[StoredBlock, ...] = ()
    staged: int = 0
    precondition: Precondition = Precondition()
    part_count: int = 0
    sealing: bytes = field(default=b"", repr=False)
    """How the bytes are sealed, with the wrapped key: opaque here, at most SEALING_BYTES_MAX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBlocks:
    """Append blocks to a list that a later PutObject or PutPart (same bucket and key) takes over. `position` is the
    number of blocks staged before: it makes order certain. A list not touched for the abandonment time is collected.
    At most BLOCKS_PER_ROW_MAX blocks. Receipt.count: blocks staged now. Refused: Conflict, NotFound (expired).
    """

    bucket: str
    key: str
    bucket_epoch: int
    staged: int
    position: int
    blocks: tuple[StoredBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropStaged:
    """Give up a staged list now (the client vanished). Receipt.existed."""

    bucket: str
    key: str
    staged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteObject:
    """Receipt.existed: there was one (deleting nothing succeeds). Leaves a tombstone in the change feed."""

    bucket: str
    key: str
    bucket_epoch: int
    precondition: Precondition = Precondition()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyInsideShard:
    """A new object sharing the source's blocks: of the same bucket, in this shard. `headers` None keeps the source's.
    `source_etag` is what the proposer saw: Conflict meta.source_changed otherwise. Source and target may be the same
    key only with new headers. Receipt.size. Refused: NotFound objects.no_such_key, InvalidArgument.
    """

    bucket: str
    key: str
    bucket_epoch: int
    source_bucket: str
    source_key: str
    source_etag: str
    headers: bytes | None = None
    checksum: str | None = None
    precondition: Precondition = Precondition()
    sealing: bytes = field(default=b"", repr=False)
    """The source's, wrapped anew for this key."""
    source_sealing: bytes = field(default=b"", repr=False)
    """What the proposer saw: with another one the blocks have another key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateUpload:
    """`upload` is a random id of UPLOAD_ID_CHARACTERS lower-case hex digits. Refused: AlreadyExists, Busy."""

    bucket: str
    key: str
    bucket_epoch: int
    upload: str
    headers: bytes = b""
    checksum: str = ""
    """Opaque: what the client wants computed."""
    sealing: bytes = field(default=b"", repr=False)
    """Of the object it becomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutPart:
    """Replaces the part of that number. `staged` is a random list id, always: blocks in it from StageBlocks come
    first, then `blocks`. Refused: NotFound objects.no_such_upload.
    """

    bucket: str
    key: str
    bucket_epoch: int
    upload: str
    number: int
    size: int
    etag: str
    checksum: str = ""
    staged: int
    blocks: tuple[StoredBlock, ...] = ()
    salt: bytes = b""
    """What makes the part's key out of the upload's; opaque here, at most SALT_BYTES_MAX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPart:
    """`checksum` is compared when not empty."""

    number: int
    etag: str
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteUpload:
    """Flip the object to the chosen parts; headers come from the upload. Receipt.size, .existed (replaced one).
    Refused: precondition; NotFound objects.no_such_upload; InvalidArgument objects.invalid_part,
    objects.invalid_part_order, objects.part_too_small.
    """

    bucket: str
    key: str
    bucket_epoch: int
    upload: str
    parts: tuple[ChosenPart, ...]
    etag: str
    checksum: str = ""
    precondition: Precondition = Precondition()


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortUpload:
    """Refused: NotFound objects.no_such_upload."""

    bucket: str
    key: str
    upload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireAbandoned:
    """Up to `limit` lists untouched since `lists_before` and uploads since `uploads_before` go to the drain.
    Receipt.count, .more.
    """

    lists_before: Stamp
    uploads_before: Stamp
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Take up to `limit` rows off what was deleted but was too large for one command. Receipt.count, .more."""

    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimTombstones:
    """Forget deletions stamped before `before`, at most `limit`: cursors older than that must start over.
    Receipt.count, .more.
    """

    before: Stamp
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateBlock:
    """Compare-and-swap of a block's place: repair says where its fragments are now. `made`: not later than when it
    began to write fragments that only the new row names; 0: it wrote none. Refused: NotFound meta.no_such_block
    (deleted meanwhile), Conflict meta.block_changed, meta.repair_too_old, meta.layout_fenced.
    """

    old: StoredBlock
    new: StoredBlock
    made: Stamp = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceBlocks:
    """These rows name `layout_epoch` from now on: it puts their fragments where they are already. Rows that changed
    meanwhile, or await repair, stay as they are. Receipt.count: rows changed. Refused: Conflict meta.layout_fenced.
    """

    blocks: tuple[StoredBlock, ...]
    layout_epoch: LayoutEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceBlock:
    """Compare-and-swap of a block for another of the same bytes, stored under another profile and so under an id of its
    own: whoever named `old` gets `new` from now on, and `old` goes to the collector. Repeatable. Refused: NotFound
    meta.no_such_block (deleted meanwhile), Conflict meta.block_changed, meta.block_exists, meta.block_too_old.
    """

    old: StoredBlock
    new: StoredBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceLayouts:
    """From now on no block row may begin to name a layout below `below`: Conflict meta.layout_fenced. Never lowered."""

    below: LayoutEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class AckGc:
    """The fragments of these blocks are gone from every device. Receipt.count: rows removed."""

    blocks: tuple[BlockId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealBucket:
    """Refuse writes under `bucket_epoch` or older. Receipt.count: objects and uploads that stand in the way."""

    bucket: str
    bucket_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsealBucket:
    """Accept writes of `bucket_epoch` or newer: after a deletion that was undone, and after any other change of the
    bucket that writers must know of.
    """

    bucket: str
    bucket_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldFence:
    """Changes nothing: sent under a job's lease, it shuts out the job's earlier runners from here on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFences:
    """Jobs in `over` and all below `below` are over: whatever their runners still send is refused. Receipt.count:
    fences forgotten.
    """

    over: tuple[JobId, ...]
    below: JobId


ShardCommand = (
    PutObject
    | StageBlocks
    | DropStaged
    | DeleteObject
    | CopyInsideShard
    | CreateUpload
    | PutPart
    | CompleteUpload
    | AbortUpload
    | ExpireAbandoned
    | Drain
    | TrimTombstones
    | UpdateBlock
    | AdvanceBlocks
    | FenceLayouts
    | ReplaceBlock
    | AckGc
    | SealBucket
    | UnsealBucket
    | HoldFence
    | SweepFences
)
KeyedCommand = (
    PutObject
    | StageBlocks
    | DropStaged
    | DeleteObject
    | CopyInsideShard
    | CreateUpload
    | PutPart
    | CompleteUpload
    | AbortUpload
)
"""Commands that the router sends to the owner of their (bucket, key)."""
