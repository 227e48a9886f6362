"""PUT /bucket/key?partNumber&uploadId: UploadPart. Source: AWS UploadPart."""

from __future__ import annotations

from dwd.gateway.core.checksums import HEADER_OF
from dwd.gateway.core.encryption import customer_key, encryption_headers, refuse_wish
from dwd.gateway.core.parameters import part_number
from dwd.gateway.exchange import Exchange, Reply


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    refuse_wish(head.headers)
    number = part_number(head.query.get("partNumber", ""))
    body = exchange.body()
    part = await exchange.objects.put_part(
        exchange.caller,
        head.bucket,
        head.key,
        head.query["uploadId"],
        number,
        body,
        customer_key=customer_key(head.headers, secure=exchange.secure),
        deadline=exchange.deadline(body.length or 0),
    )
    headers = {"ETag": f'"{part.etag}"', **encryption_headers(part.encryption, head.headers)}
    if part.checksum is not None:
        headers[HEADER_OF[part.checksum.kind]] = part.checksum.value
    return Reply(headers=headers)
