"""GET /bucket/key?uploadId: ListParts. Source: AWS ListParts."""

from __future__ import annotations

from dwd.gateway.core.parameters import page_limit, whole_number
from dwd.gateway.core.uploads import parts_document
from dwd.gateway.exchange import Exchange, Reply, xml_reply


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    after = whole_number(head.query, "part-number-marker", default=0, at_most=2**31 - 1)
    limit = page_limit(head.query, "max-parts")
    page = await exchange.objects.list_parts(
        exchange.caller,
        head.bucket,
        head.key,
        head.query["uploadId"],
        after=after,
        limit=max(limit, 1),
        deadline=exchange.deadline(),
    )
    return xml_reply(parts_document(page, exchange.caller.user, after=after, limit=limit))
