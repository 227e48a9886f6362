"""GET /bucket?uploads: ListMultipartUploads. Source: AWS ListMultipartUploads."""

from __future__ import annotations

from dwd.gateway.core.uploads import read_uploads_query, uploads_document
from dwd.gateway.exchange import Exchange, Reply, xml_reply
from dwd.objects.ports import UploadPage


async def handle(exchange: Exchange) -> Reply:
    bucket = exchange.head.bucket
    query = read_uploads_query(exchange.head.query)
    owner = (await exchange.objects.bucket(exchange.caller, bucket, deadline=exchange.deadline())).owner
    page = UploadPage(uploads=(), prefixes=(), truncated=False)
    if query.limit:
        page = await exchange.objects.list_uploads(
            exchange.caller,
            bucket,
            prefix=query.prefix,
            delimiter=query.delimiter,
            after_key=query.key_marker,
            after_upload=query.upload_marker,
            limit=query.limit,
            deadline=exchange.deadline(),
        )
    return xml_reply(uploads_document(bucket, query, page, owner))
