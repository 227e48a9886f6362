"""GET /bucket: ListObjects and ListObjectsV2. Source: AWS ListObjects, ListObjectsV2."""

from __future__ import annotations

from dwd.gateway.core.listing import ListQuery, list_document, read_list_query
from dwd.gateway.core.routing import Operation
from dwd.gateway.exchange import Exchange, Reply, xml_reply
from dwd.objects.ports import ListPage


async def handle(exchange: Exchange) -> Reply:
    version = 2 if exchange.operation is Operation.LIST_OBJECTS_V2 else 1
    query = read_list_query(exchange.head.bucket, exchange.head.query, version=version)
    user = exchange.caller.user
    if query.with_owner or not query.wanted.limit:
        user = (await exchange.objects.bucket(exchange.caller, query.wanted.bucket, deadline=exchange.deadline())).owner
    page = await _page(exchange, query)
    return xml_reply(list_document(query, page, user))


async def _page(exchange: Exchange, query: ListQuery) -> ListPage:
    if not query.wanted.limit:
        return ListPage(objects=(), prefixes=(), truncated=False, next_after="")
    return await exchange.objects.list(exchange.caller, query.wanted, deadline=exchange.deadline())
