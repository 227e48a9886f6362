"""GET /bucket/key: GetObject. Source: AWS GetObject.

The first piece is fetched before the head is sent, so that data that cannot be read is an error and not half an answer;
small objects go out in one piece.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

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
    if length <= SMALL_BODY_BYTES:
        return Reply(status=status, headers=headers, body=await _read_small(reader, length))
    stream = primed(reader.chunks())
    await anext(stream)
    return Reply(status=status, headers=headers, stream=stream, length=length)


async def _read_small(reader: ObjectReader, length: int) -> Buffer:
    pieces = [piece async for piece in reader.chunks()] if length else []
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(data) != length:
        raise _short()
    return data


async def primed(chunks: AsyncGenerator[Buffer, None]) -> AsyncGenerator[Buffer, None]:
    """`chunks` after an empty piece that comes once the first of them is at hand. None is kept once it was yielded."""
    async with aclosing(chunks):
        first = await anext(chunks, None)
        if first is None:
            raise _short()
        yield b""
        yield first
        del first
        async for chunk in chunks:
            yield chunk
            del chunk


def _short() -> Unavailable:
    return Unavailable("gateway.short_read", "An object ended before its length.")
