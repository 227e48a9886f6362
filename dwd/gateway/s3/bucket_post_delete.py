"""POST /bucket?delete: DeleteObjects. Source: AWS DeleteObjects.

Keys are deleted a few at a time: each is a command of its own in the log, and they share its batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from dwd.base.errors import DwError, InvalidArgument
from dwd.gateway.core.batch_delete import DOCUMENT_BYTES_MAX, DeleteItem, Outcome, batch_document, read_batch
from dwd.gateway.errors import s3_error
from dwd.gateway.exchange import Exchange, Reply, xml_reply
from dwd.objects.core.names import check_key
from dwd.objects.ports import Precondition

AT_ONCE = 32


async def handle(exchange: Exchange) -> Reply:
    batch = read_batch(await exchange.body().read_all(DOCUMENT_BYTES_MAX))
    await exchange.objects.bucket(exchange.caller, exchange.head.bucket, deadline=exchange.deadline())
    outcomes: list[Outcome | None] = [None] * len(batch.items)
    left = iter(enumerate(batch.items))
    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(batch.items))):
            group.create_task(_delete_some(exchange, left, outcomes))
    return xml_reply(batch_document([one for one in outcomes if one is not None], quiet=batch.quiet))


async def _delete_some(
    exchange: Exchange, left: Iterator[tuple[int, DeleteItem]], outcomes: list[Outcome | None]
) -> None:
    for index, item in left:
        outcomes[index] = await _delete_one(exchange, item)


async def _delete_one(exchange: Exchange, item: DeleteItem) -> Outcome:
    try:
        check_key(item.key)
        if item.version not in {"", "null"}:
            raise InvalidArgument("s3.invalid_argument", "Invalid version id specified")
        await exchange.objects.delete(
            exchange.caller,
            exchange.head.bucket,
            item.key,
            precondition=Precondition(if_match=(item.etag,) if item.etag else ()),
            deadline=exchange.deadline(),
        )
    except DwError as error:
        answer = s3_error(error)
        return Outcome(key=item.key, code=answer.code, message=answer.message or error.message)
    return Outcome(key=item.key)
