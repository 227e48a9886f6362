"""PUT /bucket/key: PutObject. Source: AWS PutObject, "Conditional writes"."""

from __future__ import annotations

from dwd.gateway.core.checksums import checksum_headers
from dwd.gateway.core.conditions import write_precondition
from dwd.gateway.core.encryption import encryption_headers, wanted_encryption
from dwd.gateway.core.object_headers import read_object_headers
from dwd.gateway.exchange import Exchange, Reply


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    body = exchange.body()
    info = await exchange.objects.put(
        exchange.caller,
        head.bucket,
        head.key,
        body,
        headers=read_object_headers(head.headers),
        precondition=write_precondition(head.headers),
        encryption=wanted_encryption(head.headers, secure=exchange.secure),
        deadline=exchange.deadline(body.length or 0),
    )
    headers = {"ETag": f'"{info.etag}"', **encryption_headers(info.encryption, head.headers)}
    if info.checksum is not None:
        headers.update(checksum_headers(info.checksum))
    return Reply(headers=headers)
