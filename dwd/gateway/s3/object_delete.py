"""DELETE /bucket/key: DeleteObject; succeeds whether or not there was one. Source: AWS DeleteObject."""

from __future__ import annotations

from dwd.gateway.core.conditions import write_precondition
from dwd.gateway.exchange import Exchange, Reply


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    await exchange.objects.delete(
        exchange.caller,
        head.bucket,
        head.key,
        precondition=write_precondition(head.headers),
        deadline=exchange.deadline(),
    )
    return Reply(status=204)
