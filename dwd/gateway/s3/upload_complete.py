"""POST /bucket/key?uploadId: CompleteMultipartUpload. Source: AWS CompleteMultipartUpload."""

from __future__ import annotations

from dwd.gateway.core.conditions import write_precondition
from dwd.gateway.core.documents import completed
from dwd.gateway.core.encryption import encryption_headers
from dwd.gateway.core.head import encode
from dwd.gateway.core.uploads import DOCUMENT_BYTES_MAX, completion_checksum, read_completion
from dwd.gateway.exchange import Exchange, Reply, xml_reply


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    # Here x-amz-checksum-* speaks of the whole object, not of this document.
    parts = read_completion(await exchange.body(own_checksum=False).read_all(DOCUMENT_BYTES_MAX))
    info = await exchange.objects.complete_upload(
        exchange.caller,
        head.bucket,
        head.key,
        head.query["uploadId"],
        parts,
        checksum=completion_checksum(head.headers),
        precondition=write_precondition(head.headers),
        deadline=exchange.deadline(),
    )
    scheme = "http" if exchange.options.tls is None else "https"
    location = f"{scheme}://{head.headers.get('host', '')}/{head.bucket}/{encode(head.key, keep='/')}"
    return xml_reply(completed(location, info), encryption_headers(info.encryption, {}))
