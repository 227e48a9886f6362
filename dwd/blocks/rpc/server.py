"""The fragment service of this node's devices. Register with `FragmentServer(...).add_to(rpc_server)`."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Busy, DwError, InvalidArgument, StorageFailed
from dwd.base.ids import DeviceId
from dwd.base.units import MIB
from dwd.blocks.fragments import PutFragment
from dwd.blocks.rpc import wire
from dwd.blocks.service import LocalFragments
from dwd.rpc.server import RpcServer
from dwd.runtime.files import Buffer
from dwd.runtime.tasks import Tasks

RECEIVED_BYTES_MAX = 192 * MIB
"""Requests being carried out, of all peers; past it they get Busy."""
STREAM_REQUESTS_MAX = 2_048
"""Being carried out for one stream."""

_log = structlog.get_logger("dwd.blocks")


class FragmentServer:
    def __init__(self, local: LocalFragments, clock: Clock) -> None:
        self._local, self._clock = local, clock
        self._received_bytes = 0

    def add_to(self, server: RpcServer) -> None:
        """Before the server starts."""
        server.add_generic(
            wire.SERVICE,
            {
                "Exchange": grpc.stream_stream_rpc_method_handler(self._exchange),
            },
        )

    async def _exchange(
        self, bundles: AsyncIterator[bytes], _: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        stream = _Stream(self)
        async with Tasks("blocks.exchange", _failed) as tasks:
            reading = tasks.spawn(stream.read(bundles, tasks), name="read")
            reading.add_done_callback(stream.wake)
            while (answers := await stream.next(reading)) is not None:
                for bundle in answers:
                    yield bundle

    async def answer(self, raw: Buffer) -> list[Buffer]:
        """Carry out one request; errors become the answer."""
        try:
            with self._receiving(len(raw)):
                return await self._carry_out(wire.decode_request(raw))
        except DwError as error:
            return wire.error_response(error)
        except (struct.error, IndexError):
            return wire.error_response(InvalidArgument("blocks.request", "a fragment request is cut short"))

    async def put_many(self, fragments: Sequence[PutFragment], left_ms: int) -> list[Buffer]:
        """Fragments of one device that came together."""
        try:
            with self._receiving(sum(len(fragment.content) for fragment in fragments)):
                await self._local.put_many(fragments, deadline=self._deadline(left_ms))
        except DwError as error:
            return wire.error_response(error)
        return wire.done_response()

    @contextmanager
    def _receiving(self, size: int) -> Iterator[None]:
        """Raises Busy."""
        if self._received_bytes + size > RECEIVED_BYTES_MAX:
            raise Busy("blocks.server_full", f"{self._received_bytes} bytes are being written")
        self._received_bytes += size
        try:
            yield
        finally:
            self._received_bytes -= size

    async def _carry_out(self, request: wire.Request) -> list[Buffer]:
        deadline = self._deadline(request.left_ms)
        match request.op:
            case wire.Op.PUT:
                await self._local.put(wire.decode_put(request), deadline=deadline)
                return wire.done_response()
            case wire.Op.GET:
                key, offset, length, purpose = wire.decode_get(request)
                got = await self._local.get(
                    request.device, key, offset=offset, length=length, deadline=deadline, purpose=purpose
                )
                return wire.get_response(got)
            case wire.Op.DELETE:
                await self._local.delete(request.device, wire.decode_delete(request), deadline=deadline)
                return wire.done_response()
            case wire.Op.COPIES:
                await self._local.delete_copies(request.device, wire.decode_copies(request), deadline=deadline)
                return wire.done_response()
            case wire.Op.LEFTOVERS:
                await self._local.delete_leftovers(request.device, wire.decode_delete(request), deadline=deadline)
                return wire.done_response()
            case wire.Op.HELD:
                blocks, verify = wire.decode_held(request)
                held = await self._local.held(request.device, blocks, verify=verify, deadline=deadline)
                return wire.held_response(held)

    def _deadline(self, left_ms: int) -> float:
        return self._clock.monotonic() + left_ms / 1000


class _Stream:
    """One Exchange: requests are carried out side by side, answers leave in bundles as they come."""

    def __init__(self, server: FragmentServer) -> None:
        self._server = server
        self._answers: list[Buffer] = []
        self._changed = asyncio.Event()
        self._running = 0

    async def read(self, bundles: AsyncIterator[bytes], tasks: Tasks) -> None:
        async for bundle in bundles:
            puts: dict[DeviceId, list[tuple[int, PutFragment, int]]] = {}
            for correlation, raw in wire.entries(bundle):
                if self._running >= STREAM_REQUESTS_MAX:
                    self._add(correlation, wire.error_response(Busy("blocks.stream_full", "too many requests")))
                    continue
                self._running += 1
                if len(raw) and raw[0] == wire.Op.PUT:
                    self._file_put(correlation, raw, puts)
                else:
                    _ = tasks.spawn(self._one(correlation, raw), name="request")
            for group in puts.values():
                _ = tasks.spawn(self._puts(group), name="puts")

    async def next(self, reading: asyncio.Task[None]) -> list[bytes] | None:
        """The next bundles of answers; None when the peer is done and everything is answered."""
        while not self._answers:
            if reading.done() and self._running == 0:
                return None
            await self._changed.wait()
            self._changed.clear()
        answers, self._answers = self._answers, []
        return wire.bundles(answers)

    def _file_put(
        self, correlation: int, raw: memoryview, puts: dict[DeviceId, list[tuple[int, PutFragment, int]]]
    ) -> None:
        try:
            request = wire.decode_request(raw)
            fragment = wire.decode_put(request)
        except (DwError, struct.error):
            self._finish(correlation, wire.error_response(InvalidArgument("blocks.request", "not a fragment request")))
            return
        puts.setdefault(fragment.device, []).append((correlation, fragment, request.left_ms))

    async def _one(self, correlation: int, raw: memoryview) -> None:
        answer = wire.error_response(StorageFailed("blocks.request_failed", "the request failed unexpectedly"))
        try:
            answer = await self._server.answer(raw)
        finally:
            self._finish(correlation, answer)

    async def _puts(self, group: Sequence[tuple[int, PutFragment, int]]) -> None:
        answer = wire.error_response(StorageFailed("blocks.request_failed", "the request failed unexpectedly"))
        try:
            answer = await self._server.put_many([f for _, f, _ in group], max(left for _, _, left in group))
        finally:
            for correlation, _, _ in group:
                self._finish(correlation, answer)

    def _finish(self, correlation: int, answer: Sequence[Buffer]) -> None:
        self._running -= 1
        self._add(correlation, answer)

    def _add(self, correlation: int, answer: Sequence[Buffer]) -> None:
        self._answers.extend(wire.entry(correlation, answer))
        self._changed.set()

    def wake(self, _: object) -> None:
        """The peer has nothing more to ask."""
        self._changed.set()


def _failed(task: str, error: BaseException) -> None:
    _log.warning("fragment stream failed", task=task, error=str(error))
