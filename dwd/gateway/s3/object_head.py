"""HEAD /bucket/key: HeadObject. Source: AWS HeadObject."""

from __future__ import annotations

from dwd.gateway.core.conditions import Verdict
from dwd.gateway.core.object_headers import response_overrides
from dwd.gateway.exchange import Exchange, Reply
from dwd.gateway.s3.reading import (
    answer_headers,
    conditions_of,
    not_modified,
    open_object,
    read_selection,
    settle_if_range,
)
from dwd.objects.core.ranges import ByteRange


async def handle(exchange: Exchange) -> Reply:
    selection = await settle_if_range(exchange, read_selection(exchange))
    conditions = conditions_of(exchange)
    head = exchange.head
    if selection.whole:
        info = await exchange.objects.head(
            exchange.caller, head.bucket, head.key, customer_key=selection.customer_key, deadline=exchange.deadline()
        )
        if conditions.judge(info) is Verdict.NOT_MODIFIED:
            return not_modified(info)
        span = ByteRange(start=0, end=info.size)
    else:
        reader = await open_object(exchange, selection, conditions)
        if isinstance(reader, Reply):
            return reader
        info, span = reader.info, reader.range
    headers = answer_headers(exchange, selection, info, span)
    headers.update(response_overrides(head.query))
    return Reply(status=206 if "Content-Range" in headers else 200, headers=headers, length=span.end - span.start)
