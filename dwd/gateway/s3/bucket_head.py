"""HEAD /bucket: HeadBucket. Source: AWS HeadBucket."""

from __future__ import annotations

from dwd.gateway.exchange import XML_TYPE, Exchange, Reply


async def handle(exchange: Exchange) -> Reply:
    await exchange.objects.bucket(exchange.caller, exchange.head.bucket, deadline=exchange.deadline())
    return Reply(headers={"x-amz-bucket-region": exchange.options.region, "Content-Type": XML_TYPE}, length=0)
