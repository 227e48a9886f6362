"""Put: small objects ride in their command, large ones go into blocks first; the command makes them exist."""

from __future__ import annotations

from dwd.base.errors import DwError
from dwd.base.ids import stamp_ms
from dwd.meta.core.control.rows import BucketRow
from dwd.meta.core.shard import commands
from dwd.objects.context import Context, bucket_for, inline_context, propose
from dwd.objects.core.checksums import checksum_text
from dwd.objects.core.headers import encode_headers
from dwd.objects.core.names import check_key
from dwd.objects.ports import Body, Caller, ObjectHeaders, ObjectInfo, Precondition
from dwd.objects.upload import Upload, may_have_happened


async def put(
    context: Context,
    caller: Caller,
    bucket: str,
    key: str,
    body: Body,
    *,
    headers: ObjectHeaders,
    precondition: Precondition,
    deadline: float,
) -> ObjectInfo:
    """Store `body` as (bucket, key). Raises InvalidArgument for a key S3 does not allow, Conflict
    objects.precondition_failed and what the body raises.
    """
    check_key(key)
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    encoded = encode_headers(headers)
    upload = Upload(context, row, key, inline_bytes_max=context.inline_bytes_max, deadline=deadline)
    stored = await upload.run(body)
    checksum = body.checksum()
    inline = None
    if stored.inline is not None:
        inline = context.keyring.seal(stored.inline, context=inline_context(bucket, key))

    def command(row: BucketRow) -> commands.PutObject:
        return commands.PutObject(
            bucket=bucket,
            key=key,
            bucket_epoch=row.epoch,
            size=stored.size,
            etag=stored.etag,
            headers=encoded,
            checksum=checksum_text(checksum),
            inline=inline,
            blocks=tuple(stored.blocks),
            staged=stored.staged,
            precondition=shard_precondition(precondition),
        )

    try:
        receipt = await propose(context, row, command, deadline=deadline)
    except DwError as error:
        if not may_have_happened(error):
            await upload.discard()
        raise
    return ObjectInfo(
        bucket=bucket,
        key=key,
        size=stored.size,
        etag=stored.etag,
        modified_unix_ms=stamp_ms(receipt.stamp),
        headers=headers,
        checksum=checksum,
        part_count=0,
    )


def shard_precondition(precondition: Precondition) -> commands.Precondition:
    return commands.Precondition(if_match=precondition.if_match, if_none_match=precondition.if_none_match)
