"""GET /bucket/key: GetObject. Source: AWS GetObject.

The first piece is fetched before the head is sent, so that data that cannot be read is an error and not half an answer;
small objects go out in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from dwd.base.errors import Unavailable
from dwd.gateway.body import SMALL_BODY_BYTES
from dwd.gateway.core.object_headers import response_overrides
from dwd.gateway.exchange import Exchange, Reply
from dwd.gateway.s3.reading import answer_headers, conditions_of, open_object, read_selection, settle_if_range
from dwd.objects.ports import ObjectReader
from dwd.runtime.files import Buffer


async def handle(exchange: Exchange) -> Reply:
    selection = await settle_if_range(exchange, read_selection(exchange))
    overrides = response_overrides(exchange.head.query)
    reader = await open_object(exchange, selection, conditions_of(exchange))
    if isinstance(reader, Reply):
        return reader
    span = reader.range
    length = span.end - span.start
    headers = answer_headers(exchange, selection, reader.info, span)
    if overrides:
        headers.update(overrides)
    status = 200 if selection.whole or "Content-Range" not in headers else 206
    seconds = exchange.options.operation_seconds
    if length <= SMALL_BODY_BYTES:
        return Reply(status=status, headers=headers, body=await _read_small(reader, length, seconds))
    stream = steady(reader.chunks(), seconds)
    first = await anext(stream, None)
    if first is None:
        raise Unavailable("gateway.short_read", "An object ended before its length.")
    return Reply(status=status, headers=headers, stream=prefetched(first, stream), length=length)


async def _read_small(reader: ObjectReader, length: int, seconds: float) -> Buffer:
    try:
        async with asyncio.timeout(seconds):
            pieces = [piece async for piece in reader.chunks()] if length else []
    except TimeoutError:
        raise _stalled() from None
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(data) != length:
        raise Unavailable("gateway.short_read", "An object ended before its length.")
    return data


async def steady(chunks: AsyncIterator[Buffer], seconds: float) -> AsyncIterator[Buffer]:
    """`chunks`, none of which may take longer than `seconds`."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _stalled() from None
        yield chunk


async def prefetched(first: Buffer, rest: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
    yield first
    async for chunk in rest:
        yield chunk


def _stalled() -> Unavailable:
    return Unavailable("gateway.read_stalled", "The bytes of an object did not come in time.")
