"""One stream to one node: a bounded queue, a task that keeps the stream open, and the news of its breaking.

Invariants: what is queued leaves in order, once, or not at all; a queue never holds more than QUEUE_PARCELS_MAX
parcels or QUEUE_BYTES_MAX bytes; what was queued while the stream is down is dropped with it, for raft sends again.

An Append without entries only tells how far the commit has come, which the next one with entries, the next heartbeat
and every answer to a read tell too: it waits `NEWS_SECONDS` for one of them to make it superfluous. Under load that
is half of all messages of a commit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import structlog

from dwd.base.errors import DwError, InvariantViolation
from dwd.base.ids import GroupId, NodeId, hex_id
from dwd.base.limits import MESSAGE_BYTES_MAX
from dwd.base.units import MIB
from dwd.raft.core.messages import Append
from dwd.raft.rpc.encode import Encoder
from dwd.raft.telemetry import DROPPED
from dwd.raft.transport import Parcel
from dwd.rpc.channels import Channels, Lane
from dwd.rpc.wire_versions import WireVersions

_log = structlog.get_logger("dwd.raft")

DELIVER = "/dwd.raft.v1.Raft/Deliver"
QUEUE_PARCELS_MAX = 4_096
QUEUE_BYTES_MAX = 16 * MIB
FRAME_BYTES_MAX = 4 * MIB
"""A frame is closed once it holds this much; the last append may exceed it by its own size (2 MiB at most)."""
PARCEL_BYTES = 64
CONNECT_SECONDS = 2.0
WRITE_SECONDS = 5.0
"""A peer that takes nothing for this long is treated as gone."""
NEWS_SECONDS = 0.02
BACKOFF_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4)

if FRAME_BYTES_MAX + 2 * MIB > MESSAGE_BYTES_MAX:
    raise InvariantViolation("a frame must fit one message")


class PeerLane:
    """`on_broken` is called whenever the stream breaks or cannot be opened. `run` is a task of the owner's."""

    def __init__(
        self,
        node: NodeId,
        name: str,
        *,
        channels: Channels,
        encoder: Encoder,
        versions: WireVersions,
        on_broken: Callable[[NodeId], None],
    ) -> None:
        self._node = node
        self._name = name
        self._channels = channels
        self._encoder = encoder
        self._versions = versions
        self._on_broken = on_broken
        self._queue: deque[tuple[GroupId, Parcel, int]] = deque()
        self._bytes = 0
        self._news: dict[GroupId, Append] = {}
        self._announcing = False
        self._wake = asyncio.Event()

    def announce(self) -> None:
        """Send a frame even if there is nothing to say: it tells this node's recovery epoch."""
        self._announcing = True
        self._wake.set()

    def send(self, group: GroupId, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            size = PARCEL_BYTES
            if isinstance(parcel, Append):
                if not parcel.entries:
                    self._hold(group, parcel)
                    continue
                self._news.pop(group, None)
                size += sum(len(entry.payload) + PARCEL_BYTES for entry in parcel.entries)
            if len(self._queue) >= QUEUE_PARCELS_MAX or self._bytes + size > QUEUE_BYTES_MAX:
                DROPPED.add(1, queue=self._name)
                continue
            self._queue.append((group, parcel, size))
            self._bytes += size
        if self._queue:
            self._wake.set()

    @property
    def queued(self) -> int:
        """Parcels that wait to be sent."""
        return len(self._queue)

    def _hold(self, group: GroupId, news: Append) -> None:
        if not self._news:
            asyncio.get_running_loop().call_later(NEWS_SECONDS, self._tell_news)
        self._news[group] = news

    def _tell_news(self) -> None:
        news, self._news = self._news, {}
        for group, append in news.items():
            if len(self._queue) < QUEUE_PARCELS_MAX:
                self._queue.append((group, append, PARCEL_BYTES))
                self._bytes += PARCEL_BYTES
        if self._queue:
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled: connect when there is something to say, stay connected, start again after a break."""
        failures = 0
        while True:
            await self._wake.wait()
            try:
                call = await self._connect()
                failures = 0
                await self._pump(call)
            except asyncio.CancelledError:
                if _cancelled():
                    raise
            except (grpc.RpcError, asyncio.InvalidStateError, TimeoutError, DwError) as error:
                _log.debug("stream broke", peer=hex_id(self._node), lane=self._name, error=repr(error))
            self._drop_queue()
            self._on_broken(self._node)
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1

    async def _connect(self) -> grpc.aio.StreamUnaryCall[bytes, bytes]:
        method: Any = self._channels.to(self._node, Lane.URGENT).stream_unary(DELIVER)
        call: grpc.aio.StreamUnaryCall[bytes, bytes] = method(
            metadata=(("lane", self._name), self._versions.metadata())
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await call.wait_for_connection()
        except BaseException:
            call.cancel()
            raise
        return call

    async def _pump(self, call: grpc.aio.StreamUnaryCall[bytes, bytes]) -> None:
        """Returns or raises once the call is over."""
        call.add_done_callback(lambda _: self._wake.set())
        try:
            while not call.done():
                frame = self._take_frame()
                if frame is None:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                async with asyncio.timeout(WRITE_SECONDS):
                    await call.write(frame)
        finally:
            call.cancel()

    def _take_frame(self) -> bytes | None:
        queue = self._queue
        if not queue and not self._announcing:
            return None
        self._announcing = False
        taken: list[tuple[GroupId, Parcel]] = []
        size = 0
        while queue and size < FRAME_BYTES_MAX:
            group, parcel, parcel_bytes = queue.popleft()
            taken.append((group, parcel))
            size += parcel_bytes
        self._bytes -= size
        return self._encoder.frame(self._node, taken)

    def _drop_queue(self) -> None:
        if self._queue:
            DROPPED.add(len(self._queue), queue=self._name)
        self._queue.clear()
        self._bytes = 0
        self._wake.clear()


def _cancelled() -> bool:
    """Whether this task was: gRPC raises CancelledError also when it was the peer who cancelled the call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
