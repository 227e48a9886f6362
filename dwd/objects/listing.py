"""List objects and uploads."""

from __future__ import annotations

from dwd.base.ids import stamp_ms
from dwd.base.limits import LIST_PAGE_MAX
from dwd.meta.core.shard.queries import ListObjects, ListUploads
from dwd.meta.core.shard.rows import UploadRow
from dwd.objects.at_rest import object_encryption
from dwd.objects.context import Context, bucket_for, object_info
from dwd.objects.core.checksums import parse_wanted
from dwd.objects.core.headers import DEFAULT
from dwd.objects.ports import Caller, ListPage, ListRequest, UploadInfo, UploadPage


async def list_objects(context: Context, caller: Caller, request: ListRequest, *, deadline: float) -> ListPage:
    """One page, at most LIST_PAGE_MAX items."""
    await bucket_for(context, caller, request.bucket, deadline=deadline)
    query = ListObjects(
        bucket=request.bucket,
        prefix=request.prefix,
        delimiter=request.delimiter,
        after=request.after,
        limit=min(request.limit, LIST_PAGE_MAX),
    )
    answer = await context.meta.list_objects(query, deadline=deadline)
    return ListPage(
        objects=tuple(object_info(row, DEFAULT) for row in answer.objects),
        prefixes=answer.prefixes,
        truncated=answer.truncated,
        next_after=answer.next_after,
    )


async def list_uploads(
    context: Context,
    caller: Caller,
    bucket: str,
    *,
    prefix: str,
    delimiter: str,
    after_key: str,
    after_upload: str,
    limit: int,
    deadline: float,
) -> UploadPage:
    """Unfinished multipart uploads by key."""
    await bucket_for(context, caller, bucket, deadline=deadline)
    query = ListUploads(
        bucket=bucket,
        prefix=prefix,
        delimiter=delimiter,
        after_key=after_key,
        after_upload=after_upload,
        limit=min(limit, LIST_PAGE_MAX),
    )
    answer = await context.meta.list_uploads(query, deadline=deadline)
    return UploadPage(
        uploads=tuple(upload_info(row) for row in answer.uploads), prefixes=answer.prefixes, truncated=answer.truncated
    )


def upload_info(row: UploadRow) -> UploadInfo:
    """The row as gateways see it."""
    kind, composite = parse_wanted(row.checksum)
    return UploadInfo(
        upload_id=row.upload,
        bucket=row.bucket,
        key=row.key,
        initiated_unix_ms=stamp_ms(row.initiated),
        checksum_kind=kind,
        checksum_composite=composite,
        encryption=object_encryption(row.sealing),
    )
