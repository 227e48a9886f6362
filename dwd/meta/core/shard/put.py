"""PutObject, DeleteObject, CopyInsideShard."""

from __future__ import annotations

from dwd.base.errors import Conflict, InvalidArgument, NotFound
from dwd.base.limits import INLINE_BYTES_MAX, OBJECT_BYTES_MAX
from dwd.base.units import KIB
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard import blocks, lists, objects
from dwd.meta.core.shard.commands import INLINE_BLOCKS_MAX, CopyInsideShard, DeleteObject, PutObject
from dwd.meta.core.shard.state import Shard, check_facts, check_sealing
from dwd.meta.core.tx import At

INLINE_SEALING_BYTES_MAX = 1 * KIB
"""What sealing may add to inline bytes."""


def put_object(shard: Shard, command: PutObject, at: At) -> Receipt:
    key = command.key.encode()
    shard.admit(command.bucket, key, command.bucket_epoch)
    check_facts(size=command.size, etag=command.etag, headers=command.headers, checksum=command.checksum)
    check_sealing(command.sealing)
    staged = _check_source(shard, command, key, at)
    old = objects.find(shard.tx, command.bucket, key)
    objects.judge(command.precondition, old)

    if staged is not None:
        lists.append(shard, staged, command.blocks, at, hold=True)
        lists.make_manifest(shard, ((0, staged.list, command.size),))
    elif command.blocks:
        blocks.add(shard, command.blocks, command.bucket, key)
    new = objects.NewObject(
        size=command.size,
        etag=command.etag,
        headers=command.headers,
        checksum=command.checksum,
        part_count=command.part_count,
        sealing=command.sealing,
        inline=command.inline,
        blocks=blocks.join_ids(command.blocks) if staged is None and command.blocks else None,
        manifest=None if staged is None else staged.list,
    )
    objects.write(shard, command.bucket, key, new, old, at)
    return Receipt(index=at.index, stamp=at.stamp, existed=old is not None, size=command.size)


def _check_source(shard: Shard, command: PutObject, key: bytes, at: At) -> lists.Staged | None:
    """Exactly one source of bytes, and as many of them as the object says."""
    if command.inline is not None:
        if command.blocks or command.staged:
            raise InvalidArgument("meta.two_sources", "an object is inline or in blocks, not both")
        if command.size > INLINE_BYTES_MAX or len(command.inline) > INLINE_BYTES_MAX + INLINE_SEALING_BYTES_MAX:
            raise InvalidArgument("meta.inline_length", f"more than {INLINE_BYTES_MAX} inline bytes")
        return None
    if not command.blocks and not command.staged:
        raise InvalidArgument("meta.no_source", "an object needs inline bytes or blocks")
    if len(command.blocks) > INLINE_BLOCKS_MAX or command.size > OBJECT_BYTES_MAX:
        raise InvalidArgument("meta.object_too_large", f"more than {INLINE_BLOCKS_MAX} blocks must be staged")
    blocks.check_new(shard, command.blocks, at)
    staged = lists.find_leased(shard, command.staged, command.bucket, key) if command.staged else None
    length = sum(b.plain_length for b in command.blocks) + (0 if staged is None else staged.length)
    if length != command.size:
        raise InvalidArgument("meta.length", f"the blocks hold {length} bytes, the object says {command.size}")
    return staged


def delete_object(shard: Shard, command: DeleteObject, at: At) -> Receipt:
    key = command.key.encode()
    shard.admit(command.bucket, key, command.bucket_epoch)
    old = objects.find(shard.tx, command.bucket, key)
    objects.judge(command.precondition, old)
    if old is not None:
        objects.remove(shard, command.bucket, key, old, at)
    return Receipt(index=at.index, stamp=at.stamp, existed=old is not None)


def copy_inside_shard(shard: Shard, command: CopyInsideShard, at: At) -> Receipt:
    key, source_key = command.key.encode(), command.source_key.encode()
    shard.admit(command.bucket, key, command.bucket_epoch)
    source = objects.find(shard.tx, command.source_bucket, source_key)
    if source is None:
        raise NotFound("objects.no_such_key", "the source of the copy is not there")
    if source.etag != command.source_etag or source.sealing != command.source_sealing:
        raise Conflict("meta.source_changed", "the source of the copy changed meanwhile")
    if command.bucket != command.source_bucket:
        raise InvalidArgument("meta.copy_across_buckets", "each bucket has its own blocks; put the bytes anew")
    if source.inline_id is not None:
        raise InvalidArgument("meta.copy_inline", "inline bytes are sealed for their key; put them anew")
    if (command.bucket, key) == (command.source_bucket, source_key) and command.headers is None:
        raise InvalidArgument("meta.copy_onto_itself", "a copy onto itself must change the headers")
    headers = source.headers if command.headers is None else command.headers
    checksum = source.checksum if command.checksum is None else command.checksum
    check_sealing(command.sealing)
    check_facts(size=source.size, etag=source.etag, headers=headers, checksum=checksum)
    old = objects.find(shard.tx, command.bucket, key)
    objects.judge(command.precondition, old)

    if source.manifest is not None:
        shard.tx.run("UPDATE manifests SET refs = refs + 1 WHERE manifest = ?", (source.manifest,))
    elif source.blocks is not None:
        for block in blocks.split_ids(source.blocks):
            blocks.share(shard, block)
    new = objects.NewObject(
        size=source.size,
        etag=source.etag,
        headers=headers,
        checksum=checksum,
        part_count=source.part_count,
        blocks=source.blocks,
        manifest=source.manifest,
        sealing=command.sealing,
    )
    objects.write(shard, command.bucket, key, new, old, at)
    return Receipt(index=at.index, stamp=at.stamp, existed=old is not None, size=source.size)
