"""PUT /bucket/key with x-amz-copy-source: CopyObject. Source: AWS CopyObject."""

from __future__ import annotations

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.checksums import parse_kind
from dwd.gateway.core.conditions import write_precondition
from dwd.gateway.core.copying import read_copy_source, replaces_metadata
from dwd.gateway.core.documents import copy_result
from dwd.gateway.core.encryption import encryption_headers, wanted_encryption
from dwd.gateway.core.object_headers import read_object_headers
from dwd.gateway.core.payload import PUT_BYTES_MAX
from dwd.gateway.exchange import Exchange, Reply, xml_reply


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    source = read_copy_source(head.headers, secure=exchange.secure)
    encryption = wanted_encryption(head.headers, secure=exchange.secure)
    replace = replaces_metadata(head.headers)
    if not replace and encryption is None and (source.bucket, source.key) == (head.bucket, head.key):
        raise InvalidArgument(
            "s3.invalid_request",
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes.",
        )
    algorithm = head.headers.get("x-amz-checksum-algorithm")
    info = await exchange.objects.copy(
        exchange.caller,
        source,
        head.bucket,
        head.key,
        headers=read_object_headers(head.headers) if replace else None,
        checksum=None if algorithm is None else parse_kind(algorithm, "x-amz-checksum-algorithm"),
        precondition=write_precondition(head.headers),
        encryption=encryption,
        deadline=exchange.deadline(PUT_BYTES_MAX),
    )
    return xml_reply(
        copy_result("CopyObjectResult", info.etag, info.modified_unix_ms, info.checksum),
        encryption_headers(info.encryption, head.headers),
    )
