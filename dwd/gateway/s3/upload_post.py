"""POST /bucket/key?uploads: CreateMultipartUpload. Source: AWS CreateMultipartUpload."""

from __future__ import annotations

from dwd.gateway.core.encryption import encryption_headers, wanted_encryption
from dwd.gateway.core.object_headers import read_object_headers
from dwd.gateway.core.uploads import initiated, upload_checksum
from dwd.gateway.exchange import Exchange, Reply, xml_reply


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    kind, composite = upload_checksum(head.headers)
    info = await exchange.objects.create_upload(
        exchange.caller,
        head.bucket,
        head.key,
        headers=read_object_headers(head.headers),
        checksum_kind=kind,
        checksum_composite=composite,
        encryption=wanted_encryption(head.headers, secure=exchange.secure),
        deadline=exchange.deadline(),
    )
    headers = encryption_headers(info.encryption, head.headers)
    if kind is not None:
        headers["x-amz-checksum-algorithm"] = kind.value
        headers["x-amz-checksum-type"] = "COMPOSITE" if composite else "FULL_OBJECT"
    return xml_reply(initiated(info), headers)
