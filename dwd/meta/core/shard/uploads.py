"""Multipart uploads: CreateUpload, PutPart, CompleteUpload, AbortUpload."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dwd.base.errors import AlreadyExists, Busy, InvalidArgument, NotFound
from dwd.base.limits import OBJECT_BYTES_MAX
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard import blocks, drain, lists, objects
from dwd.meta.core.shard.commands import (
    INLINE_BLOCKS_MAX,
    PART_BYTES_MIN,
    PARTS_MAX,
    AbortUpload,
    ChosenPart,
    CompleteUpload,
    CreateUpload,
    PutPart,
)
from dwd.meta.core.shard.state import Shard, check_facts, check_sealing
from dwd.meta.core.tx import At

UPLOADS_PER_KEY_MAX = 1_000
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    headers: bytes
    sealing: bytes


def _find(shard: Shard, bucket: str, key: bytes, upload: str) -> _Upload | None:
    row = shard.tx.row(
        "SELECT headers, sealing FROM uploads WHERE bucket = ? AND key = ? AND upload = ?", (bucket, key, upload)
    )
    return None if row is None else _Upload(headers=row[0], sealing=row[1])


def _require(shard: Shard, bucket: str, key: bytes, upload: str) -> _Upload:
    found = _find(shard, bucket, key, upload)
    if found is None:
        raise NotFound("objects.no_such_upload", "the upload does not exist; it may have been completed or aborted")
    return found


def create_upload(shard: Shard, command: CreateUpload, at: At) -> Receipt:
    key = command.key.encode()
    shard.admit(command.bucket, key, command.bucket_epoch)
    check_facts(size=0, etag="", headers=command.headers, checksum=command.checksum)
    check_sealing(command.sealing)
    if _UPLOAD_ID.fullmatch(command.upload) is None:
        raise InvalidArgument("meta.upload_id", "an upload id has 32 lower-case hex digits")
    taken = shard.tx.row("SELECT 1 FROM parts WHERE upload = ? LIMIT 1", (command.upload,))
    if taken is not None or _find(shard, command.bucket, key, command.upload) is not None:
        raise AlreadyExists("meta.upload_exists", "the upload id is taken")
    row = shard.tx.row("SELECT count(*) FROM uploads WHERE bucket = ? AND key = ?", (command.bucket, key))
    if row is not None and row[0] >= UPLOADS_PER_KEY_MAX:
        raise Busy("meta.uploads_per_key", f"a key may have {UPLOADS_PER_KEY_MAX} uploads at a time")

    shard.tx.run(
        "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (command.bucket, key, command.upload, at.stamp, at.stamp, command.headers, command.checksum, command.sealing),
    )
    shard.use(command.bucket, uploads=1)
    return Receipt(index=at.index, stamp=at.stamp)


def put_part(shard: Shard, command: PutPart, at: At) -> Receipt:
    key = command.key.encode()
    shard.admit(command.bucket, key, command.bucket_epoch)
    check_facts(size=command.size, etag=command.etag, headers=b"", checksum=command.checksum)
    check_sealing(b"", command.salt)
    if not 1 <= command.number <= PARTS_MAX:
        raise InvalidArgument("objects.invalid_part_number", f"a part number is between 1 and {PARTS_MAX}")
    if len(command.blocks) > INLINE_BLOCKS_MAX:
        raise InvalidArgument("meta.object_too_large", f"more than {INLINE_BLOCKS_MAX} blocks must be staged")
    _require(shard, command.bucket, key, command.upload)
    staged = lists.find_or_new(shard, command.staged, command.bucket, key)
    blocks.check_new(shard, command.blocks, at)
    length = staged.length + sum(b.plain_length for b in command.blocks)
    if length != command.size:
        raise InvalidArgument("meta.length", f"the blocks hold {length} bytes, the part says {command.size}")
    old = shard.tx.row("SELECT list FROM parts WHERE upload = ? AND number = ?", (command.upload, command.number))

    lists.append(shard, staged, command.blocks, at, hold=True, salt=command.salt)
    if old is not None:
        drain.queue(shard, drain.DrainKind.LIST, old[0])
    shard.tx.run(
        "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)",
        (command.upload, command.number, command.size, command.etag, command.checksum, at.stamp, command.staged),
    )
    shard.tx.run(
        "UPDATE uploads SET touched = ? WHERE bucket = ? AND key = ? AND upload = ?",
        (at.stamp, command.bucket, key, command.upload),
    )
    return Receipt(index=at.index, stamp=at.stamp, existed=old is not None, size=command.size)


def complete_upload(shard: Shard, command: CompleteUpload, at: At) -> Receipt:
    """Flips the object to the chosen parts; part rows go by Drain. A repeat that finds its own work done succeeds."""
    key = command.key.encode()
    shard.admit(command.bucket, key, command.bucket_epoch)
    upload = _find(shard, command.bucket, key, command.upload)
    old = objects.find(shard.tx, command.bucket, key)
    if upload is None:
        if old is not None and old.etag == command.etag and old.part_count == len(command.parts):
            return Receipt(index=at.index, stamp=at.stamp, existed=True, size=old.size)
        raise NotFound("objects.no_such_upload", "the upload does not exist; it may have been completed or aborted")
    chosen, others = _choose(shard, command.upload, command.parts)
    size = sum(part[2] for part in chosen)
    if size > OBJECT_BYTES_MAX:
        raise InvalidArgument("objects.too_large", f"an object has at most {OBJECT_BYTES_MAX} bytes", size=size)
    check_facts(size=size, etag=command.etag, headers=upload.headers, checksum=command.checksum)
    objects.judge(command.precondition, old)

    manifest = lists.make_manifest(shard, chosen)
    shard.tx.run(
        "DELETE FROM uploads WHERE bucket = ? AND key = ? AND upload = ?", (command.bucket, key, command.upload)
    )
    shard.use(command.bucket, uploads=-1)
    for other in others:
        drain.queue(shard, drain.DrainKind.LIST, other)
    drain.queue(shard, drain.DrainKind.PARTS, command.upload)
    new = objects.NewObject(
        size=size,
        etag=command.etag,
        headers=upload.headers,
        checksum=command.checksum,
        part_count=len(chosen),
        manifest=manifest,
        sealing=upload.sealing,
    )
    objects.write(shard, command.bucket, key, new, old, at)
    return Receipt(index=at.index, stamp=at.stamp, existed=old is not None, size=size)


def _choose(shard: Shard, upload: str, parts: Sequence[ChosenPart]) -> tuple[list[tuple[int, int, int]], list[int]]:
    """(number, list, size) of the chosen parts in order, and the lists of those not chosen. Raises InvalidArgument."""
    if not 1 <= len(parts) <= PARTS_MAX:
        raise InvalidArgument("objects.invalid_part", f"an upload is completed with 1 to {PARTS_MAX} parts")
    present = {
        number: (size, etag, checksum, target)
        for number, size, etag, checksum, target in shard.tx.rows(
            "SELECT number, size, etag, checksum, list FROM parts WHERE upload = ?", (upload,)
        )
    }
    chosen: list[tuple[int, int, int]] = []
    before = 0
    for part in parts:
        if part.number <= before:
            raise InvalidArgument("objects.invalid_part_order", "parts must come in ascending order", part=part.number)
        before = part.number
        found = present.pop(part.number, None)
        if found is None or found[1] != part.etag or (part.checksum and found[2] != part.checksum):
            raise InvalidArgument(
                "objects.invalid_part", f"part {part.number} is not there or is not the one named", part=part.number
            )
        chosen.append((part.number, found[3], found[0]))
    for number, _, size in chosen[:-1]:
        if size < PART_BYTES_MIN:
            raise InvalidArgument(
                "objects.part_too_small",
                f"part {number} has {size} bytes, less than {PART_BYTES_MIN}",
                part=number,
                size=size,
                size_min=PART_BYTES_MIN,
            )
    return chosen, [found[3] for _, found in sorted(present.items())]


def abort_upload(shard: Shard, command: AbortUpload, at: At) -> Receipt:
    key = command.key.encode()
    _require(shard, command.bucket, key, command.upload)
    drain.give_up_upload(shard, command.bucket, key, command.upload)
    return Receipt(index=at.index, stamp=at.stamp)
