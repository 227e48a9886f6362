"""PUT /bucket/key?partNumber&uploadId with x-amz-copy-source: UploadPartCopy. Source: AWS UploadPartCopy."""

from __future__ import annotations

from dwd.gateway.core.copying import read_copy_source
from dwd.gateway.core.documents import copy_result
from dwd.gateway.core.encryption import customer_key, encryption_headers, refuse_wish
from dwd.gateway.core.parameters import part_number
from dwd.gateway.core.payload import PUT_BYTES_MAX
from dwd.gateway.core.ranges import parse_copy_range
from dwd.gateway.exchange import Exchange, Reply, xml_reply


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    refuse_wish(head.headers)
    number = part_number(head.query.get("partNumber", ""))
    part = await exchange.objects.copy_part(
        exchange.caller,
        read_copy_source(head.headers, secure=exchange.secure),
        parse_copy_range(head.headers.get("x-amz-copy-source-range")),
        head.bucket,
        head.key,
        head.query["uploadId"],
        number,
        customer_key=customer_key(head.headers, secure=exchange.secure),
        deadline=exchange.deadline(PUT_BYTES_MAX),
    )
    return xml_reply(
        copy_result("CopyPartResult", part.etag, part.modified_unix_ms, part.checksum),
        encryption_headers(part.encryption, head.headers),
    )
