"""DELETE /bucket: DeleteBucket. Source: AWS DeleteBucket."""

from __future__ import annotations

from dwd.gateway.exchange import Exchange, Reply


async def handle(exchange: Exchange) -> Reply:
    await exchange.objects.delete_bucket(exchange.caller, exchange.head.bucket, deadline=exchange.deadline())
    return Reply(status=204)
