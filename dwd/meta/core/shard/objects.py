"""Object rows: found, judged against preconditions, replaced, removed."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.errors import Conflict, NotFound
from dwd.base.ids import BlockId, LogIndex, Stamp
from dwd.meta.core.shard import blocks
from dwd.meta.core.shard.commands import Precondition
from dwd.meta.core.shard.drain import release_manifest
from dwd.meta.core.shard.rows import ObjectRow
from dwd.meta.core.shard.state import Shard
from dwd.meta.core.tx import At, Reader, Row

COLUMNS = (
    "bucket, key, size, etag, modified, changed, headers, checksum, part_count, manifest, inline_bytes, inline_id,"
    " blocks, sealing"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """An object as the commands see it."""

    size: int
    etag: str
    part_count: int
    headers: bytes
    checksum: str
    inline_id: int | None
    blocks: bytes | None
    manifest: int | None
    sealing: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewObject:
    """The row to be written. One of the last three says where the bytes are."""

    size: int
    etag: str
    headers: bytes
    checksum: str
    part_count: int
    sealing: bytes = b""
    inline: bytes | None = None
    blocks: bytes | None = None
    manifest: int | None = None


def find(reader: Reader, bucket: str, key: bytes) -> Present | None:
    row = reader.row(
        "SELECT size, etag, part_count, headers, checksum, inline_id, blocks, manifest, sealing FROM objects"
        " WHERE bucket = ? AND key = ? AND version = 0",
        (bucket, key),
    )
    if row is None:
        return None
    return Present(
        size=row[0],
        etag=row[1],
        part_count=row[2],
        headers=row[3],
        checksum=row[4],
        inline_id=row[5],
        blocks=row[6],
        manifest=row[7],
        sealing=row[8],
    )


def object_row(row: Row) -> ObjectRow:
    """From COLUMNS."""
    return ObjectRow(
        bucket=row[0],
        key=row[1].decode(),
        size=row[2],
        etag=row[3],
        modified=Stamp(row[4]),
        changed=LogIndex(row[5]),
        headers=row[6],
        checksum=row[7],
        part_count=row[8],
        manifest=row[9] or 0,
        inline_bytes=row[10],
        sealing=row[13],
    )


def judge(precondition: Precondition, present: Present | None) -> None:
    """RFC 9110 section 13.2.2 as S3 has it for writes. Raises Conflict, NotFound."""
    if precondition.if_match:
        if present is None:
            raise NotFound("objects.no_such_key", "there is no such object to match")
        if "*" not in precondition.if_match and present.etag not in precondition.if_match:
            raise Conflict("objects.precondition_failed", "the object is not the one named", condition="If-Match")
    if (
        precondition.if_none_match
        and present is not None
        and ("*" in precondition.if_none_match or present.etag in precondition.if_none_match)
    ):
        raise Conflict("objects.precondition_failed", "the object is there already", condition="If-None-Match")


def write(shard: Shard, bucket: str, key: bytes, new: NewObject, old: Present | None, at: At) -> None:
    """Put the row; what was there before is released. References of `new` are already counted."""
    inline_id = None
    if new.inline is not None:
        inline_id = at.index
        shard.tx.run("INSERT INTO inline_data VALUES (?, ?)", (at.index, new.inline))
    shard.tx.run(
        "INSERT OR REPLACE INTO objects VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            bucket,
            key,
            new.size,
            new.etag,
            at.stamp,
            at.index,
            new.headers,
            new.checksum,
            new.part_count,
            inline_id,
            new.blocks,
            new.manifest,
            -1 if new.inline is None else len(new.inline),
            new.sealing,
        ),
    )
    if old is None:
        shard.use(bucket, objects=1, size=new.size)
    else:
        shard.use(bucket, size=new.size - old.size)
        release(shard, old, at)


def remove(shard: Shard, bucket: str, key: bytes, old: Present, at: At) -> None:
    """Delete the row and leave a tombstone."""
    shard.tx.run("DELETE FROM objects WHERE bucket = ? AND key = ? AND version = 0", (bucket, key))
    shard.tx.run("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?, ?)", (bucket, key, at.index, at.stamp))
    shard.use(bucket, objects=-1, size=-old.size)
    release(shard, old, at)


def release(shard: Shard, old: Present, at: At) -> None:
    """Give up the bytes of an object that is no more."""
    if old.inline_id is not None:
        shard.tx.run("DELETE FROM inline_data WHERE id = ?", (old.inline_id,))
    elif old.blocks is not None:
        for block in blocks.split_ids(old.blocks):
            blocks.release(shard, BlockId(block), at)
    elif old.manifest is not None:
        release_manifest(shard, old.manifest)
