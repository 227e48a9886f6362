"""GET /: ListBuckets. Source: AWS ListBuckets."""

from __future__ import annotations

from dwd.gateway.core.documents import list_buckets
from dwd.gateway.exchange import Exchange, Reply, xml_reply


async def handle(exchange: Exchange) -> Reply:
    buckets = await exchange.objects.buckets(exchange.caller, deadline=exchange.deadline())
    prefix = exchange.head.query.get("prefix", "")
    shown = sorted((one for one in buckets if one.name.startswith(prefix)), key=lambda one: one.name)
    return xml_reply(list_buckets(shown, exchange.caller.user))
