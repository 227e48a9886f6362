"""Open and read: one linearizable look at the metadata, then verified bytes with one block fetched ahead.

Invariants: a reader holds at most two blocks, and all of a node no more than it has places for (`Context.held`): a
reader without a place goes on in narrow spans, one at a time; each step has a deadline of its own, the whole has none,
so that slow clients can read large objects; within a step what may pass by itself (a node that fails over, a device
that is busy) is tried again: half an answer cannot be taken back. A block that cannot be read is looked up anew:
repair and changes of profile move blocks while they are read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from dwd.base.errors import Busy, Corrupt, DwError, InvalidArgument, Unavailable
from dwd.base.units import KIB
from dwd.blocks.ports import Owner
from dwd.meta.core.shard.queries import GetBlocks, GetObject, GetPartBounds, HeadObject, ObjectAnswer
from dwd.meta.core.shard.rows import ObjectRow, PlacedBlock
from dwd.objects.at_rest import Unsealer, check_customer_key
from dwd.objects.context import NARROW_BYTES, Context, bucket_for, no_such_key, object_info
from dwd.objects.core.ranges import ByteRange, RangeRequest, resolve
from dwd.objects.ports import STEP_SECONDS, Caller, ObjectInfo
from dwd.runtime.files import Buffer

SPANS_MAX = 2
"""Of one reader: the one being sent and the one behind it."""
AGAIN_SECONDS_MIN = 0.05
AGAIN_SECONDS_MAX = 1.0
"""Pause before a block is asked for again; doubles from one to the other."""
UNPACK_INLINE_BYTES_MAX = 64 * KIB + 16
"""A record costs less to open than to hand to another thread."""
BLOCKS_PER_LOOK = 1_000
"""Block rows fetched with the object's: an object of up to 4 GiB needs no second look while it is streamed."""


async def head(
    context: Context, caller: Caller, bucket: str, key: str, *, customer_key: bytes = b"", deadline: float
) -> ObjectInfo:
    """Raises NotFound objects.no_such_key; as Unsealer does where the customer's key is wanted."""
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    answer = await context.meta.read(HeadObject(bucket=bucket, key=key), deadline=deadline)
    if answer.object is None:
        raise no_such_key(bucket, key)
    if customer_key or answer.object.sealing:
        check_customer_key(context.keys, row, key, answer.object.sealing, customer_key)
    return object_info(answer.object)


async def open_object(
    context: Context,
    caller: Caller,
    bucket: str,
    key: str,
    *,
    wanted: RangeRequest | None,
    part_number: int | None,
    customer_key: bytes = b"",
    deadline: float,
) -> Reader:
    """Raises NotFound objects.no_such_key, InvalidArgument objects.range_not_satisfiable, objects.no_such_part; as
    Unsealer does.
    """
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    if part_number is not None:
        wanted = await _part_range(context, bucket, key, part_number, deadline=deadline)
    query = GetObject(
        bucket=bucket,
        key=key,
        offset=(wanted.first or 0) if wanted is not None else 0,
        length=wanted.last + 1 - (wanted.first or 0) if wanted is not None and wanted.last is not None else -1,
        suffix=wanted.suffix if wanted is not None and wanted.suffix is not None else -1,
        limit=BLOCKS_PER_LOOK,
    )
    answer = await context.meta.read(query, deadline=deadline)
    if answer.object is None:
        raise no_such_key(bucket, key)
    unsealer = Unsealer(context.keys, row, key, answer.object.sealing, customer_key)
    return Reader(context, answer.object, answer, resolve(wanted, answer.object.size), unsealer)


async def _part_range(context: Context, bucket: str, key: str, number: int, *, deadline: float) -> RangeRequest | None:
    answer = await context.meta.read(GetPartBounds(bucket=bucket, key=key, number=number), deadline=deadline)
    if answer.part is not None:
        return RangeRequest(first=answer.part.offset, last=answer.part.offset + answer.part.size - 1)
    if number == 1:
        return None  # an object that was put whole is its own first part
    raise InvalidArgument("objects.no_such_part", f"{bucket}/{key} has no part {number}", part=number)


@dataclass(slots=True)
class _Span:
    """Part of a block on its way. `end` it once, when its bytes are sent or nobody wants them."""

    fetching: asyncio.Task[Sequence[Buffer]]
    place: asyncio.Semaphore | None

    def end(self) -> None:
        self.fetching.cancel()
        if self.place is not None:
            self.place.release()


class Reader:
    """An opened object. `chunks` yields verified bytes of `range` in order, once."""

    def __init__(
        self, context: Context, row: ObjectRow, answer: ObjectAnswer, wanted: ByteRange, unsealer: Unsealer
    ) -> None:
        self._context = context
        self._unsealer = unsealer
        self._row = row
        self._answer = answer
        self._range = wanted
        self._info = object_info(row)

    @property
    def info(self) -> ObjectInfo:
        return self._info

    @property
    def unsealer(self) -> Unsealer:
        return self._unsealer

    @property
    def sealing(self) -> bytes:
        """As the row had it when it was opened."""
        return self._row.sealing

    @property
    def range(self) -> ByteRange:
        return self._range

    async def chunks(self) -> AsyncGenerator[Buffer, None]:
        """See ObjectReader."""
        if self._answer.inline is not None:
            yield self._open_inline(self._answer.inline)
        elif self._range.end > self._range.start:
            async with aclosing(self._from_blocks()) as pieces:
                async for piece in pieces:
                    yield piece

    def _open_inline(self, sealed: bytes) -> Buffer:
        plain = self._unsealer.open_inline(sealed, self._row.size)
        if len(plain) != self._row.size:
            raise Corrupt(
                "objects.size_differs", f"{self._row.bucket}/{self._row.key}: stored bytes and size do not agree"
            )
        whole = self._range.start == 0 and self._range.end == len(plain)
        return plain if whole else memoryview(plain)[self._range.start : self._range.end]

    async def _from_blocks(self) -> AsyncGenerator[Buffer, None]:
        """One block is fetched while the one before it is being sent, where the node has a place to keep it."""
        under_way: deque[_Span] = deque()
        held, more = self._context.held, True
        try:
            async with aclosing(self._spans()) as spans:
                while True:
                    while more and (not under_way or (len(under_way) < SPANS_MAX and not held.locked())):
                        span = await anext(spans, None)
                        if span is None:
                            more = False
                        else:
                            under_way.append(span)
                    if not under_way:
                        return
                    for piece in await under_way[0].fetching:
                        yield piece
                    under_way.popleft().end()
        finally:
            for span in under_way:
                span.end()

    async def _spans(self) -> AsyncGenerator[_Span, None]:
        """What to send, piece by piece, each being fetched: to the end of the block where that is little or there is a
        place for it, else narrow.
        """
        context = self._context
        async for placed, position in self._steps():
            start, end = position, min(self._range.end, placed.offset + placed.owned.stored.plain_length)
            while start < end:
                length, place = end - start, None
                if length > NARROW_BYTES and context.held.locked():
                    length = NARROW_BYTES
                elif length > NARROW_BYTES:
                    place = context.held
                    _ = await place.acquire()
                yield _Span(context.tasks.spawn(self._fetch(placed, start, length), name="read"), place)
                start += length

    async def _steps(self) -> AsyncGenerator[tuple[PlacedBlock, int], None]:
        """The blocks of the range, each with the byte of the object from which it is wanted."""
        position = self._range.start
        async for placed in self._placed():
            if placed.offset > position or position >= self._range.end:
                break
            yield placed, position
            position = min(self._range.end, placed.offset + placed.owned.stored.plain_length)
        if position < self._range.end:
            name = f"{self._row.bucket}/{self._row.key}"
            raise Corrupt("objects.blocks_missing", f"{name}: metadata names no block at byte {position}")

    async def _placed(self) -> AsyncGenerator[PlacedBlock, None]:
        """Blocks covering the range, in order, asking for more rows where the first answer ended."""
        blocks, more = self._answer.blocks, self._answer.more
        while True:
            for placed in blocks:
                yield placed
            if not more or not blocks:
                return
            offset = blocks[-1].offset + blocks[-1].owned.stored.plain_length
            query = GetBlocks(
                bucket=self._row.bucket,
                key=self._row.key,
                manifest=self._row.manifest,
                offset=offset,
                length=self._range.end - offset,
                limit=BLOCKS_PER_LOOK,
            )
            answer = await self._context.meta.read(query, deadline=self._step())
            blocks, more = answer.blocks, answer.more

    async def _fetch(self, placed: PlacedBlock, position: int, length: int) -> Sequence[Buffer]:
        stored = placed.owned.stored
        start = position - placed.offset
        end = start + length
        deadline = self._step()
        packed = self._unsealer.block(
            packing=stored.packing,
            length=stored.length,
            plain_length=stored.plain_length,
            position=placed.within,
            salt=placed.salt,
        )
        if packed is None:
            return await self._read(placed, start, end, deadline)
        table, span = None, packed.table_span()
        if span is not None and (start, end) != (0, stored.plain_length):
            table = packed.read_table(_joined(await self._read(placed, *span, deadline)))
        first, last = packed.span(start, end, table)
        data = _joined(await self._read(placed, first, last, deadline))
        if last - first <= UNPACK_INLINE_BYTES_MAX:
            return [packed.unpack(data, start, end, table)]
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._context.hashing, packed.unpack, data, start, end, table)]

    async def _read(self, placed: PlacedBlock, start: int, end: int, deadline: float) -> list[memoryview]:
        """Bytes [start, end) of the block as it is stored."""
        owner, pause = Owner(bucket=placed.owned.bucket, key=placed.owned.key), AGAIN_SECONDS_MIN
        while True:
            stored = placed.owned.stored
            try:
                async with asyncio.timeout(deadline - self._context.clock.monotonic()), self._context.reading:
                    return await self._context.blocks.read(
                        stored, owner=owner, offset=start, length=end - start, deadline=deadline
                    )
            except TimeoutError:
                raise Unavailable("objects.read_stalled", "the bytes of an object did not come in time") from None
            except (Busy, Unavailable, Corrupt) as error:
                moved = None if isinstance(error, Busy) else await self._moved(placed, deadline)
                if moved is not None:
                    placed = moved
                    continue
                if isinstance(error, Corrupt) or self._context.clock.monotonic() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, AGAIN_SECONDS_MAX)

    async def _moved(self, placed: PlacedBlock, deadline: float) -> PlacedBlock | None:
        """Where the same bytes lie now, if repair or another profile put them elsewhere since this reader looked."""
        query = GetObject(bucket=self._row.bucket, key=self._row.key, offset=placed.offset, length=1, limit=1)
        try:
            answer = await self._context.meta.read(query, deadline=deadline)
        except DwError:
            return None
        same = answer.object is not None and answer.object.changed == self._row.changed
        if not same or not answer.blocks or answer.blocks[0].owned.stored == placed.owned.stored:
            return None
        return answer.blocks[0]

    def _step(self) -> float:
        return self._context.clock.monotonic() + STEP_SECONDS


def _joined(pieces: Sequence[memoryview]) -> Buffer:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
