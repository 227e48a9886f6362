"""DELETE /bucket?encryption: the bucket is encrypted as the cluster's default has it. Source: AWS
DeleteBucketEncryption.
"""

from __future__ import annotations

from dwd.gateway.exchange import Exchange, Reply


async def handle(exchange: Exchange) -> Reply:
    await exchange.objects.set_bucket_at_rest(
        exchange.caller, exchange.head.bucket, to_default=True, deadline=exchange.deadline()
    )
    return Reply(status=204)
