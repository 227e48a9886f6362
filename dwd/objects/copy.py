"""Copy: inside a shard blocks are shared, across shards (and for small objects) bytes are copied."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from dwd.base.errors import Conflict, InvalidArgument
from dwd.base.ids import stamp_ms
from dwd.meta.core.control.rows import BucketRow
from dwd.meta.core.shard import commands
from dwd.objects.at_rest import bucket_encryption
from dwd.objects.context import Context, bucket_for, propose
from dwd.objects.core.headers import encode_headers
from dwd.objects.core.names import check_key
from dwd.objects.core.ranges import RangeRequest
from dwd.objects.encryption import Encryption, EncryptionMode
from dwd.objects.multipart import put_part
from dwd.objects.ports import (
    Caller,
    Checksum,
    ChecksumKind,
    CopySource,
    ObjectHeaders,
    ObjectInfo,
    ObjectReader,
    PartInfo,
    Precondition,
)
from dwd.objects.put import put, shard_precondition
from dwd.objects.read import Reader, open_object
from dwd.runtime.files import Buffer

COPY_BYTES_MAX = 5 * 1024**3
"""S3's limit of one copy; larger objects are copied part by part."""


class ReaderBody:
    """An opened object as the body of an upload."""

    def __init__(self, reader: ObjectReader, checksum: Checksum | None) -> None:
        self._reader = reader
        self._checksum = checksum

    @property
    def length(self) -> int | None:
        return self._reader.range.end - self._reader.range.start

    def chunks(self) -> AsyncGenerator[Buffer, None]:
        return self._reader.chunks()

    def checksum(self) -> Checksum | None:
        return self._checksum


async def copy(
    context: Context,
    caller: Caller,
    source: CopySource,
    bucket: str,
    key: str,
    *,
    headers: ObjectHeaders | None,
    checksum: ChecksumKind | None,
    precondition: Precondition,
    encryption: Encryption | None = None,
    deadline: float,
) -> ObjectInfo:
    """Raises NotFound objects.no_such_key, Conflict objects.precondition_failed, InvalidArgument objects.too_large
    and for a key S3 does not allow.

    The source's checksum is kept; one of another kind that the client asks for is refused where it would have to be
    computed over shared blocks, so such a copy moves the bytes.
    """
    check_key(key)
    reader = await open_object(
        context,
        caller,
        source.bucket,
        source.key,
        wanted=None,
        part_number=None,
        customer_key=source.customer_key,
        deadline=deadline,
    )
    check_source(source, reader.info)
    if reader.info.size > COPY_BYTES_MAX:
        raise InvalidArgument("objects.too_large", "one copy moves at most 5 GiB", hint="copy it in parts")
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    kept = reader.info.headers if headers is None else headers
    same_kind = checksum is None or (reader.info.checksum is not None and reader.info.checksum.kind is checksum)
    onto_itself = headers is None and (source.bucket, source.key) == (bucket, key)  # asked to be encrypted anew
    shareable = same_kind and not onto_itself and _shareable(context, source, row, key, reader.info, encryption)
    if shareable:
        return await _share(context, row, key, source, reader, headers, kept, precondition, deadline=deadline)
    whole = reader.info.checksum if same_kind and not _is_composite(reader.info.checksum) else None
    body = ReaderBody(reader, whole)
    return await put(
        context,
        caller,
        bucket,
        key,
        body,
        headers=kept,
        precondition=precondition,
        encryption=encryption,
        deadline=deadline,
    )


async def copy_part(
    context: Context,
    caller: Caller,
    source: CopySource,
    wanted: RangeRequest | None,
    bucket: str,
    key: str,
    upload_id: str,
    number: int,
    *,
    customer_key: bytes = b"",
    deadline: float,
) -> PartInfo:
    """A part from (a range of) another object. Raises as `copy` and `put_part` do."""
    reader = await open_object(
        context,
        caller,
        source.bucket,
        source.key,
        wanted=wanted,
        part_number=None,
        customer_key=source.customer_key,
        deadline=deadline,
    )
    check_source(source, reader.info)
    if reader.range.end - reader.range.start > COPY_BYTES_MAX:
        raise InvalidArgument("objects.too_large", "a part has at most 5 GiB")
    body = ReaderBody(reader, None)
    return await put_part(
        context, caller, bucket, key, upload_id, number, body, customer_key=customer_key, deadline=deadline
    )


def check_source(source: CopySource, info: ObjectInfo) -> None:
    """Raises Conflict objects.precondition_failed. Dates count in whole seconds, as HTTP dates do."""
    wanted, modified = source.precondition, info.modified_unix_ms // 1000
    since, until = source.modified_since_unix_ms, source.unmodified_since_unix_ms
    failed = bool(wanted.if_match) and not {"*", info.etag} & set(wanted.if_match)
    failed |= bool({"*", info.etag} & set(wanted.if_none_match))
    failed |= since is not None and not wanted.if_none_match and modified <= since // 1000
    failed |= until is not None and not wanted.if_match and modified > until // 1000
    if failed:
        raise Conflict("objects.precondition_failed", f"{info.bucket}/{info.key} is not as the copy wants it")


def _shareable(
    context: Context, source: CopySource, row: BucketRow, key: str, info: ObjectInfo, wanted: Encryption | None
) -> bool:
    """Blocks can be shared inside a bucket, when one shard owns both keys (ADR 0012), and the copy is to be encrypted
    as they are.
    """
    view = context.meta.view
    target = bucket_encryption(row) if wanted is None else wanted
    if target != info.encryption or target.mode is EncryptionMode.CUSTOMER_KEY:
        return False
    return (
        info.size > context.inline_bytes_max
        and source.bucket == row.name
        and view.group_of(source.bucket, source.key) == view.group_of(row.name, key)
    )


async def _share(
    context: Context,
    row: BucketRow,
    key: str,
    source: CopySource,
    reader: Reader,
    headers: ObjectHeaders | None,
    kept: ObjectHeaders,
    precondition: Precondition,
    *,
    deadline: float,
) -> ObjectInfo:
    encoded = None if headers is None else encode_headers(headers)
    condition, info = shard_precondition(precondition), reader.info
    sealing = reader.unsealer.sealing_for(key)
    receipt = await propose(
        context,
        row,
        lambda now: commands.CopyInsideShard(
            bucket=row.name,
            key=key,
            bucket_epoch=now.epoch,
            source_bucket=source.bucket,
            source_key=source.key,
            source_etag=info.etag,
            headers=encoded,
            precondition=condition,
            sealing=sealing,
            source_sealing=reader.sealing,
        ),
        deadline=deadline,
    )
    return replace(info, bucket=row.name, key=key, headers=kept, modified_unix_ms=stamp_ms(receipt.stamp))


def _is_composite(checksum: Checksum | None) -> bool:
    return checksum is not None and checksum.composite
