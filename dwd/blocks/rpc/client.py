"""Fragments of other nodes, on long-lived streams: small requests of many callers share one, large ones have others.

A large payload on the stream of the small ones would hold up everything behind it; a call of its own, large or small,
costs each side about a millisecond more than a message on a stream (docs/design/performance.md). A broken stream fails
what waits on it (`Unavailable`: every request here may be sent again) and the next request opens a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc
import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Busy, DeadlineExceeded, DwError, Unavailable
from dwd.base.ids import BlockId, DeviceId, NodeId
from dwd.base.limits import BLOCK_BYTES, SMALL_BLOCK_BYTES
from dwd.base.units import MIB
from dwd.blocks.budget import ByteBudget
from dwd.blocks.fragments import CopyKey, Fetched, HeldFragment, Purpose, PutFragment
from dwd.blocks.rpc import wire
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.rpc.calls import translated
from dwd.rpc.channels import Channels, Lane
from dwd.runtime.files import Buffer
from dwd.runtime.tasks import Tasks

WAITING_MAX = 2_000
"""Requests waiting on one stream."""
QUEUED_BYTES_MAX = 32 * MIB
"""Waiting to be sent on one stream."""
INFLIGHT_BYTES_MAX = 64 * MIB
"""Large payloads under way to or from one node; more wait."""
SMALL, LARGE = 0, (1, 2)
"""The streams to one node."""

_log = structlog.get_logger("dwd.blocks")


class RemoteFragments:
    """`NodeFragments` over gRPC. Owned by one event loop."""

    def __init__(self, channels: Channels, clock: Clock) -> None:
        self._channels, self._clock = channels, clock
        self._streams: dict[tuple[NodeId, int], _Stream] = {}
        self._inflight: dict[NodeId, ByteBudget] = {}
        self._tasks = Tasks("blocks.remote", _failed)

    async def put(self, node: NodeId, fragment: PutFragment, *, deadline: float) -> None:
        request = wire.put_request(fragment, self._left_ms(deadline))
        _ = await self._send(node, request, len(fragment.content), deadline)

    async def get(
        self,
        node: NodeId,
        device: DeviceId,
        key: FragmentKey,
        *,
        offset: int,
        length: int,
        deadline: float,
        purpose: Purpose = Purpose.CLIENT,
    ) -> Fetched:
        request = wire.get_request(device, key, offset, length, self._left_ms(deadline), purpose)
        return wire.decode_fetched(await self._send(node, request, length, deadline))

    async def delete(self, node: NodeId, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        _ = await self._send(node, wire.delete_request(device, keys, self._left_ms(deadline)), 0, deadline)

    async def delete_copies(
        self, node: NodeId, device: DeviceId, copies: Sequence[CopyKey], *, deadline: float
    ) -> None:
        _ = await self._send(node, wire.copies_request(device, copies, self._left_ms(deadline)), 0, deadline)

    async def delete_leftovers(
        self, node: NodeId, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float
    ) -> None:
        _ = await self._send(node, wire.leftovers_request(device, keys, self._left_ms(deadline)), 0, deadline)

    async def held(
        self, node: NodeId, device: DeviceId, blocks: Sequence[BlockId], *, verify: bool, deadline: float
    ) -> tuple[HeldFragment, ...]:
        request = wire.held_request(device, blocks, self._left_ms(deadline), verify=verify)
        return wire.decode_held_response(await self._send(node, request, 0, deadline))

    async def close(self) -> None:
        await self._tasks.close()
        for stream in self._streams.values():
            stream.end(Unavailable("blocks.stopping", "this node is stopping"))

    async def _send(self, node: NodeId, request: Sequence[Buffer], bulk: int, deadline: float) -> memoryview:
        if bulk < SMALL_BLOCK_BYTES:
            return wire.decode_response(await self._stream(node, SMALL).ask(request, deadline))
        budget = self._inflight.setdefault(node, ByteBudget(self._clock, INFLIGHT_BYTES_MAX))
        async with budget.holding(min(bulk, BLOCK_BYTES), deadline=deadline):
            stream = min((self._stream(node, number) for number in LARGE), key=_waiting)
            return wire.decode_response(await stream.ask(request, deadline))

    def _stream(self, node: NodeId, number: int) -> _Stream:
        stream = self._streams.get((node, number))
        if stream is None or stream.ended:
            stream = self._streams[node, number] = _Stream(self._clock)
            channel = self._channels.to(node, Lane.BULK)
            _ = self._tasks.spawn(stream.run(channel, self._tasks), name=f"exchange {node:016x}")
        return stream

    def _left_ms(self, deadline: float) -> int:
        left = int((deadline - self._clock.monotonic()) * 1000)
        if left <= 0:
            raise DeadlineExceeded("blocks.deadline", "no time left to reach the node")
        return min(left, 0xFFFFFFFF)


class _Stream:
    """One Exchange with one node."""

    def __init__(self, clock: Clock) -> None:
        self.ended = False
        self._clock = clock
        self._waiting: dict[int, asyncio.Future[memoryview]] = {}
        self._queue: list[Buffer] = []
        self._queued_bytes = 0
        self._queued = asyncio.Event()
        self._next = 1

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def ask(self, request: Sequence[Buffer], deadline: float) -> memoryview:
        """The raw response. Raises Busy, Unavailable, DeadlineExceeded."""
        if len(self._waiting) >= WAITING_MAX or self._queued_bytes >= QUEUED_BYTES_MAX:
            raise Busy("blocks.stream_busy", f"{len(self._waiting)} requests wait for one node")
        correlation, self._next = self._next, self._next + 1
        future: asyncio.Future[memoryview] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = future
        self._queue.extend(wire.entry(correlation, request))
        self._queued_bytes += sum(map(len, request))
        self._queued.set()
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
                return await future
        except TimeoutError as error:
            raise DeadlineExceeded("blocks.deadline", "the node did not answer in time") from error
        finally:
            self._waiting.pop(correlation, None)

    async def run(self, channel: grpc.aio.Channel, tasks: Tasks) -> None:
        """Until the stream breaks; everything that waits is told."""
        reason: DwError = Unavailable("blocks.node_lost", "the connection to the node broke")
        try:
            method: Callable[[], grpc.aio.StreamStreamCall[bytes, bytes]] = channel.stream_stream(
                f"/{wire.SERVICE}/Exchange"
            )
            exchange = method()
            writing = tasks.spawn(self._write(exchange), name="write")
            try:
                with translated(sent=False):
                    while isinstance(bundle := await exchange.read(), bytes):
                        self._deliver(bundle)
            finally:
                writing.cancel()
                exchange.cancel()
        except DwError as error:
            reason = Unavailable("blocks.node_lost", f"the stream to the node ended: {error.message}")
        finally:
            self.end(reason)

    def end(self, reason: DwError) -> None:
        self.ended = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(reason)

    async def _write(self, exchange: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        try:
            while True:
                await self._queued.wait()
                queue, self._queue, self._queued_bytes = self._queue, [], 0
                self._queued.clear()
                for bundle in wire.bundles(queue):
                    await exchange.write(bundle)
        except (grpc.RpcError, asyncio.InvalidStateError):
            exchange.cancel()

    def _deliver(self, bundle: bytes) -> None:
        for correlation, response in wire.entries(bundle):
            future = self._waiting.get(correlation)
            if future is not None and not future.done():
                future.set_result(response)


def _waiting(stream: _Stream) -> int:
    return stream.waiting


def _failed(task: str, error: BaseException) -> None:
    _log.warning("fragment stream failed", task=task, error=str(error))
