"""Multipart uploads: parts are block lists of their own; completing flips a pointer.

Etags as AWS makes them: MD5 of a part; of the whole, MD5 of the parts' raw MD5s, then "-" and their number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

from dwd.base.errors import DwError, InvalidArgument, NotFound
from dwd.base.ids import stamp_ms
from dwd.meta.core.control.rows import BucketRow
from dwd.meta.core.shard import commands
from dwd.meta.core.shard.queries import HeadObject, ListParts
from dwd.meta.core.shard.rows import PartRow, UploadRow
from dwd.objects.at_rest import Unsealer, object_encryption, packing_level, protect
from dwd.objects.context import Context, bucket_for, object_info, propose
from dwd.objects.core.checksums import checksum_text, composite, full_object, parse_checksum, wanted_text
from dwd.objects.core.headers import decode_headers, encode_headers
from dwd.objects.core.names import check_key
from dwd.objects.encryption import Encryption
from dwd.objects.listing import upload_info
from dwd.objects.ports import (
    Body,
    Caller,
    Checksum,
    ChecksumKind,
    CompletedPart,
    ObjectHeaders,
    ObjectInfo,
    PartInfo,
    PartPage,
    Precondition,
    UploadInfo,
)
from dwd.objects.put import shard_precondition
from dwd.objects.upload import Upload, may_have_happened
from dwd.security.data_keys import new_stream_salt

PARTS_PER_LOOK = 1_000


async def create_upload(
    context: Context,
    caller: Caller,
    bucket: str,
    key: str,
    *,
    headers: ObjectHeaders,
    checksum_kind: ChecksumKind | None,
    checksum_composite: bool,
    encryption: Encryption | None = None,
    deadline: float,
) -> UploadInfo:
    """Begin an upload; what is never completed is collected after the abandonment time. Raises InvalidArgument for a
    key S3 does not allow.
    """
    check_key(key)
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    upload = f"{context.meta.random_id():016x}{context.meta.random_id():016x}"
    protection = protect(context.keys, row, key, encryption, headers)
    sealing = protection.sealing()
    encoded, wanted = encode_headers(headers), wanted_text(checksum_kind, composite=checksum_composite)
    receipt = await propose(
        context,
        row,
        lambda now: commands.CreateUpload(
            bucket=bucket,
            key=key,
            bucket_epoch=protection.require_current(now).epoch,
            upload=upload,
            headers=encoded,
            checksum=wanted,
            sealing=sealing,
        ),
        deadline=deadline,
    )
    return UploadInfo(
        upload_id=upload,
        bucket=bucket,
        key=key,
        initiated_unix_ms=stamp_ms(receipt.stamp),
        checksum_kind=checksum_kind,
        checksum_composite=checksum_composite,
        encryption=protection.encryption(),
    )


async def put_part(
    context: Context,
    caller: Caller,
    bucket: str,
    key: str,
    upload_id: str,
    number: int,
    body: Body,
    *,
    customer_key: bytes = b"",
    deadline: float,
) -> PartInfo:
    """Raises NotFound objects.no_such_upload before any byte is stored, InvalidArgument objects.invalid_part; as
    Unsealer does where the customer's key is wanted.
    """
    if not 1 <= number <= commands.PARTS_MAX:
        raise InvalidArgument("objects.invalid_part", f"part numbers go from 1 to {commands.PARTS_MAX}")
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    begun, _, _ = await _part_page(
        context, bucket, key, upload_id, after=commands.PARTS_MAX, limit=1, deadline=deadline
    )
    unsealer = Unsealer(context.keys, row, key, begun.sealing, customer_key)
    salt = new_stream_salt() if begun.sealing else b""
    level = packing_level(row, decode_headers(begun.headers))
    upload = Upload(context, row, key, lambda: unsealer.packer(level, salt), inline_bytes_max=-1, deadline=deadline)
    stored = await upload.run(body)
    checksum = body.checksum()
    staged = stored.staged or context.meta.random_id()

    def command(now: BucketRow) -> commands.PutPart:
        return commands.PutPart(
            bucket=bucket,
            key=key,
            bucket_epoch=now.epoch,
            upload=upload_id,
            number=number,
            size=stored.size,
            etag=stored.etag,
            checksum=checksum_text(checksum),
            staged=staged,
            blocks=tuple(stored.blocks),
            salt=salt,
        )

    try:
        receipt = await propose(context, row, command, deadline=deadline)
    except DwError as error:
        if not may_have_happened(error):
            await upload.discard()
        raise
    modified = stamp_ms(receipt.stamp)
    return PartInfo(
        number=number,
        size=stored.size,
        etag=stored.etag,
        modified_unix_ms=modified,
        checksum=checksum,
        encryption=object_encryption(begun.sealing),
    )


async def complete_upload(
    context: Context,
    caller: Caller,
    bucket: str,
    key: str,
    upload_id: str,
    parts: tuple[CompletedPart, ...],
    *,
    checksum: Checksum | None,
    precondition: Precondition,
    deadline: float,
) -> ObjectInfo:
    """Raises InvalidArgument objects.invalid_part, objects.invalid_part_order, objects.part_too_small,
    objects.checksum_mismatch; NotFound objects.no_such_upload; Conflict objects.precondition_failed.
    """
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    begun, stored = await _all_parts(context, bucket, key, upload_id, deadline=deadline)
    upload, chosen = upload_info(begun), _choose(parts, stored)
    digests = b"".join(bytes.fromhex(part.row.etag) for part in chosen)
    etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(chosen)}"
    whole = _whole_checksum(upload, chosen)
    _check_whole(checksum, whole)
    wanted = tuple(
        commands.ChosenPart(number=part.row.number, etag=part.row.etag, checksum=part.row.checksum) for part in chosen
    )
    condition = shard_precondition(precondition)
    await propose(
        context,
        row,
        lambda now: commands.CompleteUpload(
            bucket=bucket,
            key=key,
            bucket_epoch=now.epoch,
            upload=upload_id,
            parts=wanted,
            etag=etag,
            checksum=checksum_text(whole),
            precondition=condition,
        ),
        deadline=deadline,
    )
    answer = await context.meta.read(HeadObject(bucket=bucket, key=key), deadline=deadline)
    if answer.object is not None and answer.object.etag == etag:
        return object_info(answer.object)
    return ObjectInfo(  # replaced or deleted by somebody else in this very moment
        bucket=bucket,
        key=key,
        size=sum(part.row.size for part in chosen),
        etag=etag,
        modified_unix_ms=context.clock.unix_ms(),
        headers=ObjectHeaders(),
        checksum=whole,
        part_count=len(chosen),
        encryption=upload.encryption,
    )


async def abort_upload(
    context: Context, caller: Caller, bucket: str, key: str, upload_id: str, *, deadline: float
) -> None:
    """Raises NotFound objects.no_such_upload."""
    await bucket_for(context, caller, bucket, deadline=deadline)
    await context.meta.keyed(commands.AbortUpload(bucket=bucket, key=key, upload=upload_id), deadline=deadline)


async def list_parts(
    context: Context,
    caller: Caller,
    bucket: str,
    key: str,
    upload_id: str,
    *,
    after: int,
    limit: int,
    deadline: float,
) -> PartPage:
    """Raises NotFound objects.no_such_upload."""
    await bucket_for(context, caller, bucket, deadline=deadline)
    upload, rows, truncated = await _part_page(
        context, bucket, key, upload_id, after=after, limit=min(limit, PARTS_PER_LOOK), deadline=deadline
    )
    return PartPage(upload=upload_info(upload), parts=tuple(_part_info(row) for row in rows), truncated=truncated)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    asked: CompletedPart
    row: PartRow


def _choose(parts: tuple[CompletedPart, ...], stored: dict[int, PartRow]) -> list[_Chosen]:
    """The stored row of each part the client names; the state machine judges the same again."""
    if not parts:
        raise InvalidArgument("objects.invalid_part", "an upload is completed with at least one part")
    if any(earlier.number >= later.number for earlier, later in pairwise(parts)):
        raise InvalidArgument("objects.invalid_part_order", "parts are named in ascending order, each once")
    chosen = []
    for part in parts:
        row = stored.get(part.number)
        known = parse_checksum(row.checksum) if row is not None else None
        differs = part.checksum is not None and known is not None and part.checksum.value != known.value
        if row is None or row.etag != part.etag or differs:
            raise InvalidArgument(
                "objects.invalid_part", f"part {part.number} was not uploaded, or not with this etag", part=part.number
            )
        chosen.append(_Chosen(asked=part, row=row))
    return chosen


def _whole_checksum(upload: UploadInfo, chosen: list[_Chosen]) -> Checksum | None:
    """The whole object's checksum, where the upload wanted one and every part has it."""
    kind = upload.checksum_kind
    known = [parse_checksum(part.row.checksum) for part in chosen]
    if kind is None or any(checksum is None or checksum.kind is not kind for checksum in known):
        return None
    values = [checksum.value for checksum in known if checksum is not None]
    if upload.checksum_composite:
        return composite(kind, values)
    return full_object(kind, [(value, part.row.size) for value, part in zip(values, chosen, strict=True)])


def _check_whole(wanted: Checksum | None, whole: Checksum | None) -> None:
    """Raises InvalidArgument objects.checksum_mismatch when the client knows better what the whole is."""
    if wanted is not None and whole is not None and wanted.kind is whole.kind and wanted.value != whole.value:
        raise InvalidArgument(
            "objects.checksum_mismatch", f"the object's {whole.kind.value} is not {wanted.value}", hint="send it again"
        )


async def _all_parts(
    context: Context, bucket: str, key: str, upload_id: str, *, deadline: float
) -> tuple[UploadRow, dict[int, PartRow]]:
    found: dict[int, PartRow] = {}
    after = 0
    while True:
        upload, rows, truncated = await _part_page(
            context, bucket, key, upload_id, after=after, limit=PARTS_PER_LOOK, deadline=deadline
        )
        found.update((row.number, row) for row in rows)
        if not truncated or not rows:
            return upload, found
        after = rows[-1].number


async def _part_page(
    context: Context, bucket: str, key: str, upload_id: str, *, after: int, limit: int, deadline: float
) -> tuple[UploadRow, tuple[PartRow, ...], bool]:
    query = ListParts(bucket=bucket, key=key, upload=upload_id, after=after, limit=limit)
    answer = await context.meta.read(query, deadline=deadline)
    if answer.upload is None:
        raise NotFound("objects.no_such_upload", f"no upload {upload_id[:64]!r} of {bucket}/{key}")
    return answer.upload, answer.parts, answer.truncated


def _part_info(row: PartRow) -> PartInfo:
    return PartInfo(
        number=row.number,
        size=row.size,
        etag=row.etag,
        modified_unix_ms=stamp_ms(row.modified),
        checksum=parse_checksum(row.checksum),
    )
