"""DELETE /bucket/key?uploadId: AbortMultipartUpload. Source: AWS AbortMultipartUpload."""

from __future__ import annotations

from dwd.gateway.exchange import Exchange, Reply


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    await exchange.objects.abort_upload(
        exchange.caller, head.bucket, head.key, head.query["uploadId"], deadline=exchange.deadline()
    )
    return Reply(status=204)
