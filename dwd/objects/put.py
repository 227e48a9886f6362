"""Put: small objects ride in their command, large ones go into blocks first; the command makes them exist."""

from __future__ import annotations

from dwd.base.errors import DwError
from dwd.base.ids import stamp_ms
from dwd.meta.core.control.rows import BucketRow
from dwd.meta.core.shard import commands
from dwd.objects.at_rest import protect
from dwd.objects.context import Context, bucket_for, propose
from dwd.objects.core.checksums import checksum_text
from dwd.objects.core.headers import encode_headers
from dwd.objects.core.names import check_key
from dwd.objects.encryption import Encryption
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
    encryption: Encryption | None = None,
    deadline: float,
) -> ObjectInfo:
    """Store `body` as (bucket, key). Raises InvalidArgument for a key S3 does not allow, Conflict
    objects.precondition_failed and what the body raises.
    """
    check_key(key)
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    encoded = encode_headers(headers)
    protection = protect(context.keys, row, key, encryption, headers)
    inline_bytes_max = context.inline_bytes_max
    upload = Upload(context, row, key, protection.packer, inline_bytes_max=inline_bytes_max, deadline=deadline)
    stored = await upload.run(body)
    checksum = body.checksum()
    inline, sealing = protection.seal(stored.inline)

    def command(row: BucketRow) -> commands.PutObject:
        return commands.PutObject(
            bucket=bucket,
            key=key,
            bucket_epoch=protection.require_current(row).epoch,
            size=stored.size,
            etag=stored.etag,
            headers=encoded,
            checksum=checksum_text(checksum),
            inline=inline,
            blocks=tuple(stored.blocks),
            staged=stored.staged,
            precondition=shard_precondition(precondition),
            sealing=sealing,
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
        encryption=protection.encryption(),
    )


def shard_precondition(precondition: Precondition) -> commands.Precondition:
    return commands.Precondition(if_match=precondition.if_match, if_none_match=precondition.if_none_match)
