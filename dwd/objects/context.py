"""What every verb of `dwd.objects` works with, and the questions they all ask first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, NotFound, PermissionDenied, Unavailable
from dwd.base.ids import stamp_ms
from dwd.base.units import KIB
from dwd.blocks.ports import BlockStore
from dwd.meta.client import MetaClient
from dwd.meta.core.control.queries import GetBucket
from dwd.meta.core.control.rows import BucketRow, BucketState
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import KeyedCommand, PutObject, PutPart, StageBlocks
from dwd.meta.core.shard.rows import ObjectRow
from dwd.objects.at_rest import ObjectKeys, bucket_encryption, object_encryption
from dwd.objects.core.checksums import parse_checksum
from dwd.objects.core.headers import decode_headers
from dwd.objects.ports import BucketInfo, Caller, ObjectHeaders, ObjectInfo
from dwd.runtime.tasks import Tasks

C = TypeVar("C", bound=KeyedCommand)
BUCKET_LOOKS_MAX = 3
BLOCKS_WRITING_MAX = 8
"""Blocks that one node writes at a time, of all requests: each costs about four times its size while its fragments are
encoded and sent, and two or three saturate the devices.
"""
BLOCKS_READING_MAX = 8
"""Blocks that one node fetches at a time, of all downloads: what a slow client has not taken is not counted."""
BLOCKS_HELD_MAX = 24
"""Blocks in memory for downloads, on one node: being fetched, or waiting for their clients. While all places are taken,
downloads go on in spans of NARROW_BYTES, so that slow clients cost little and keep nobody waiting.
"""
NARROW_BYTES = 128 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Shared by all verbs of one node. `inline_bytes_max` is the largest object that rides in its command; `hashing`
    runs digests of large buffers beside the event loop; `tasks` owns reads ahead of what a client has taken; `writing`
    and `reading` are held while a block is, `held` until the client has taken one that was read.
    """

    meta: MetaClient
    blocks: BlockStore
    keys: ObjectKeys
    clock: Clock
    hashing: Executor
    tasks: Tasks
    inline_bytes_max: int
    writing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BLOCKS_WRITING_MAX))
    held: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BLOCKS_HELD_MAX))
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BLOCKS_READING_MAX))


async def bucket_for(context: Context, caller: Caller, bucket: str, *, deadline: float) -> BucketRow:
    """The bucket's row, if the caller may act on it. Raises NotFound objects.no_such_bucket, PermissionDenied.

    The local copy of control answers; where it knows no such bucket, control itself is asked, so that a bucket made
    through another node a moment ago is found.
    """
    row = context.meta.view.bucket(bucket)
    if row is None or row.state is not BucketState.ACTIVE:
        row = await fresh_bucket(context, bucket, deadline=deadline)
    if not (caller.admin or row.owner == caller.user):
        raise PermissionDenied("objects.access_denied", f"{caller.user} may not act on bucket {bucket}")
    return row


async def fresh_bucket(context: Context, bucket: str, *, deadline: float) -> BucketRow:
    """The row as control has it now."""
    answer = await context.meta.read(GetBucket(name=bucket), deadline=deadline)
    if answer.bucket is None or answer.bucket.state is not BucketState.ACTIVE:
        raise NotFound("objects.no_such_bucket", f"no bucket {bucket!r}", hint="create it first", bucket=bucket)
    return answer.bucket


async def propose(
    context: Context, row: BucketRow, make: Callable[[BucketRow], KeyedCommand], *, deadline: float
) -> Receipt:
    """Propose what `make` builds for the bucket as it is; looks again when the shard knows a newer bucket. Blocks that
    were written before the bucket changed its policy are taken in saying what they should be: they are stored anew.
    """
    written_under = row.policy
    for _ in range(BUCKET_LOOKS_MAX):
        command = make(row)
        if row.policy != written_under and isinstance(command, (PutObject, PutPart, StageBlocks)):
            command = replace(command, blocks=context.blocks.wanted(row.policy, command.blocks))
        try:
            return await context.meta.keyed(command, deadline=deadline)
        except Conflict as error:
            if error.code != "meta.bucket_stale":
                raise
            row = await fresh_bucket(context, row.name, deadline=deadline)
    raise Unavailable("objects.bucket_changing", f"bucket {row.name} keeps changing", hint="try again")


def bucket_info(row: BucketRow) -> BucketInfo:
    return BucketInfo(
        name=row.name,
        owner=row.owner,
        policy=row.policy,
        created_unix_ms=stamp_ms(row.created),
        compression=row.at_rest.compression,
        encryption=bucket_encryption(row),
    )


def object_info(row: ObjectRow, headers: ObjectHeaders | None = None) -> ObjectInfo:
    """The row as gateways see it; listings pass the headers they leave out."""
    return ObjectInfo(
        bucket=row.bucket,
        key=row.key,
        size=row.size,
        etag=row.etag,
        modified_unix_ms=stamp_ms(row.modified),
        headers=decode_headers(row.headers) if headers is None else headers,
        checksum=parse_checksum(row.checksum),
        part_count=row.part_count,
        encryption=object_encryption(row.sealing),
    )


def no_such_key(bucket: str, key: str) -> NotFound:
    return NotFound("objects.no_such_key", f"no object {key!r} in bucket {bucket!r}", bucket=bucket, key=key)
