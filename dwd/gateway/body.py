"""A body on its way from the socket to the store: unframed, verified, in large buffers.

Bodies up to SMALL_BODY_BYTES are read whole, verified, and handed over as they are: no thread, no copy when they came
in one piece. Larger ones fill one fresh bytearray of BLOCK_BYTES per block straight from the socket's pieces; while
the store works on a block its digests are computed on a worker thread (hashlib, zlib and ISA-L let go of the GIL),
one hop a block.

Invariants: at most one block is being filled and one being hashed per request, and no more than `filling` lets be
filled or wait for the store in all; a block handed over is never written again; `chunks` returns normally only when
length, signatures and digests all held; a client that sends too slowly for its bytes is given up.
Hazard: a buffer that waits for bytes which do not come keeps others waiting. So it is taken only once HEAD_BYTES of
its block are there, and given back when the next HEAD_BYTES do not come in `step_seconds`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from dwd.base.errors import InvalidArgument, InvariantViolation
from dwd.base.limits import BLOCK_BYTES
from dwd.base.units import KIB
from dwd.gateway.core.chunked import ChunkData, ChunkedDecoder, ChunkEnd, Event
from dwd.gateway.core.payload import Framing, PayloadPlan
from dwd.gateway.core.verification import ChunkSigning, Verifier
from dwd.objects.ports import Checksum
from dwd.runtime.files import Buffer

SMALL_BODY_BYTES = 64 * KIB
OFFLOAD_BYTES = 128 * KIB
"""Below this a thread hop costs more than the digests."""
HEAD_BYTES = 256 * KIB
"""Of a block, at hand before a buffer is taken for it."""

if SMALL_BODY_BYTES > OFFLOAD_BYTES:
    raise InvariantViolation("small bodies must be verified inline")


class BodySource(Protocol):
    """Where the raw bytes come from."""

    async def read(self) -> bytes:
        """The next bytes as they come; b"" at the end.

        Raises InvalidArgument s3.incomplete_body (the client went away), s3.request_timeout.
        """
        ...


class UploadBody:
    """The Body port over a BodySource."""

    def __init__(
        self,
        source: BodySource,
        plan: PayloadPlan,
        signing: ChunkSigning | None,
        executor: Executor | None,
        *,
        filling: asyncio.Semaphore,
        seconds_for: Callable[[int], float],
        step_seconds: float,
    ) -> None:
        self._source = source
        self._length = plan.length
        self._verifier = Verifier(plan, signing)
        self._executor = executor
        self._signed = plan.framing is Framing.CHUNKED_SIGNED
        self._decoder = (
            None if plan.framing is Framing.PLAIN else ChunkedDecoder(signed=self._signed, trailers=plan.trailers)
        )
        self._filling = filling
        self._seconds_for = seconds_for
        self._step_seconds = step_seconds
        self._waiting: deque[Event] = deque()
        self._taken = 0

    @property
    def length(self) -> int | None:
        return self._length

    def checksum(self) -> Checksum | None:
        return self._verifier.checksum

    async def chunks(self) -> AsyncGenerator[Buffer, None]:
        """See Body; to be called once."""
        if self._length <= SMALL_BODY_BYTES:
            try:
                async with asyncio.timeout(self._seconds_for(self._length)):
                    data = await self._read_small()
            except TimeoutError:
                raise _too_slow() from None
            if data:
                yield data
            return
        hashing: asyncio.Future[None] | None = None
        while (room := min(BLOCK_BYTES, self._length - self._taken)) > 0:
            async with self._patience(self._seconds_for(room)):
                await self._gather(min(room, HEAD_BYTES))
            async with self._filling:
                async with self._patience(self._seconds_for(room)):
                    block, events = await self._fill(room)
                if hashing is not None:
                    await hashing
                if not block:
                    break
                hashing = self._verify(block, events)
                yield block
                del block
        if hashing is not None:
            await hashing
        async with self._patience(self._seconds_for(0)):
            self._verifier.update(memoryview(b""), await self._rest())
        self._finish()

    async def read_all(self, bytes_max: int) -> bytes:
        """A whole document. Raises InvalidArgument s3.malformed_xml when it is longer than `bytes_max`."""
        if self._length > bytes_max:
            raise InvalidArgument("s3.malformed_xml", "The XML you provided is too long.", max_size_allowed=bytes_max)
        async with aclosing(self.chunks()) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def _read_small(self) -> Buffer:
        pieces: list[Buffer] = []
        events: list[Event] = []
        size = 0
        while (event := await self._next()) is not None:
            if self._signed:
                events.append(event)
            if isinstance(event, ChunkData):
                pieces.append(event.data)
                size += len(event.data)
                if size > self._length:
                    raise _too_long()
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._verifier.update(memoryview(data), events)
        self._finish()
        return data

    async def _gather(self, size: int) -> None:
        """Until so many bytes are at hand, or the body ends."""
        while sum(len(event.data) for event in self._waiting if isinstance(event, ChunkData)) < size:
            if not await self._receive():
                return

    async def _fill(self, room: int) -> tuple[memoryview, list[Event]]:
        """The next block; short when the body is."""
        events: list[Event] = []
        block = memoryview(bytearray(room))
        at = 0
        while at < room:
            if not self._waiting:
                async with self._patience(self._step_seconds):
                    await self._gather(min(room - at, HEAD_BYTES))
            event = await self._next()
            if event is None:
                break
            if isinstance(event, ChunkEnd):
                events.append(event)
                continue
            data = event.data
            if len(data) > room - at:
                self._waiting.appendleft(ChunkData(data[room - at :]))
                data = data[: room - at]
            block[at : at + len(data)] = data
            at += len(data)
            if self._signed:
                events.append(ChunkData(data))
        self._taken += at
        return block[:at], events

    async def _rest(self) -> list[Event]:
        """The framing behind the last byte."""
        events: list[Event] = []
        while (event := await self._next()) is not None:
            if isinstance(event, ChunkData):
                raise _too_long()
            events.append(event)
        return events

    async def _next(self) -> Event | None:
        """The next piece of payload or end of a chunk; None at the end of the body."""
        while not self._waiting:
            if not await self._receive():
                return None
        return self._waiting.popleft()

    async def _receive(self) -> bool:
        """Take in what the source has; False at its end."""
        piece = await self._source.read()
        if not piece:
            return False
        if self._decoder is None:
            self._waiting.append(ChunkData(memoryview(piece)))
        else:
            self._waiting.extend(self._decoder.feed(piece))
        return True

    @asynccontextmanager
    async def _patience(self, seconds: float) -> AsyncIterator[None]:
        """A client that takes longer is given up."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise _too_slow() from None

    def _verify(self, block: memoryview, events: list[Event]) -> asyncio.Future[None] | None:
        if self._executor is None or self._verifier.idle or len(block) < OFFLOAD_BYTES:
            self._verifier.update(block, events)
            return None
        hashing = asyncio.get_running_loop().run_in_executor(self._executor, self._verifier.update, block, events)
        # Whoever stops reading early never awaits it; its error is then of no interest to anyone.
        hashing.add_done_callback(_retrieve)
        return hashing

    def _finish(self) -> None:
        trailers: dict[str, str] = {}
        if self._decoder is not None:
            self._decoder.finish()
            trailers = self._decoder.trailers
        self._verifier.finish(trailers)


def _retrieve(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def _too_slow() -> InvalidArgument:
    return InvalidArgument(
        "s3.request_timeout", "The body came too slowly: please send it faster, or in smaller parts."
    )


def _too_long() -> InvalidArgument:
    return InvalidArgument("s3.incomplete_body", "The request body is longer than the length you specified.")
