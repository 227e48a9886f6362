"""Proposals and questions to other nodes: one stream a peer, all requests of a turn of the event loop in one message.

Invariant: a request that left and got no answer is OutcomeUnknown for a proposal; one that never left is Unavailable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import structlog

from dwd.base import wire
from dwd.base.clock import Clock
from dwd.base.errors import Busy, DeadlineExceeded, DwError, NotFound, OutcomeUnknown, Unavailable
from dwd.base.ids import GroupId, NodeId
from dwd.base.units import MIB
from dwd.meta import codec
from dwd.meta.core.outcome import Outcome, decode_outcome
from dwd.meta.core.query import Query
from dwd.meta.rpc.silence import Silence
from dwd.pb.meta.v1 import meta_pb2, meta_pb2_grpc
from dwd.rpc.channels import Channels
from dwd.rpc.errors import translate
from dwd.runtime.tasks import Tasks

A = TypeVar("A")

PENDING_MAX = 4_096
"""Requests to one peer without an answer; past it callers get Busy."""
BATCH_BYTES_MAX = 4 * MIB
LOOK_SECONDS = 0.1
"""Between looks at whether the peer answers, while somebody waits."""

_log = structlog.get_logger("dwd.meta")


class GrpcPeers:
    """`dwd.meta.peers.Peers` over the channels of the node."""

    def __init__(self, channels: Channels, clock: Clock) -> None:
        self._channels = channels
        self._clock = clock
        self._links: dict[NodeId, _Link] = {}
        self._tasks = Tasks("meta.peers", _failed)

    async def propose(self, node: NodeId, group: GroupId, payload: bytes, *, deadline: float) -> Outcome:
        reply = await self._ask(node, group, deadline, proposal=payload)
        return decode_outcome(reply.outcome)

    async def answer(self, node: NodeId, group: GroupId, query: Query[A], *, deadline: float) -> A:
        reply = await self._ask(node, group, deadline, question=codec.encode_question(query))
        found: A = codec.decode_answer(reply.answer)
        return found

    def leader_changed(self, group: GroupId, leader: NodeId) -> None:
        for node, link in self._links.items():
            if node != leader:
                link.give_up(group)

    async def close(self) -> None:
        await self._tasks.close()

    async def _ask(self, node: NodeId, group: GroupId, deadline: float, **body: bytes) -> meta_pb2.Reply:
        link = self._links.get(node)
        if link is None or link.broken:
            try:
                link = _Link(self._channels.to(node), self._tasks)
            except NotFound as error:
                raise Unavailable("meta.node_unknown", "it is not known here where that node is") from error
            self._links[node] = link
            _ = self._tasks.spawn(link.run(), name=f"{node:016x}")
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise DeadlineExceeded("meta.deadline", "no time is left to ask another node")
        reply = await link.ask(group, left, body)
        if reply.WhichOneof("body") == "error":
            raise wire.decode(reply.error)
        return reply


@dataclass(slots=True, kw_only=True)
class _Waiting:
    group: GroupId
    mutation: bool
    answer: asyncio.Future[meta_pb2.Reply]
    sent: bool = False
    since: float = float("inf")
    """When it was sent: a connection that is being made is no silence."""


class _Link:
    """One stream. Once broken it stays so; the next request opens another."""

    def __init__(self, channel: grpc.aio.Channel, tasks: Tasks) -> None:
        self.broken = False
        self._tasks = tasks
        self._channel = channel
        self._waiting: dict[int, _Waiting] = {}
        self._outbox: deque[tuple[int, meta_pb2.Request]] = deque()
        self._wake = asyncio.Event()
        self._next = 1
        self._silence = Silence()
        self._looking: asyncio.TimerHandle | None = None

    async def ask(self, group: GroupId, seconds: float, body: dict[str, bytes]) -> meta_pb2.Reply:
        if max(len(self._waiting), len(self._outbox)) >= PENDING_MAX:
            raise Busy("meta.peer_busy", f"{PENDING_MAX} requests wait for the node's answer")
        self._silence.admit(group, (other.group for other in self._waiting.values()))
        number = self._next
        self._next += 1
        request = meta_pb2.Request(id=number, group=group, milliseconds_left=max(1, int(seconds * 1000)))
        if "proposal" in body:
            request.proposal = body["proposal"]
        else:
            request.question = body["question"]
        loop = asyncio.get_running_loop()
        future: asyncio.Future[meta_pb2.Reply] = loop.create_future()
        waiting = _Waiting(group=group, mutation="proposal" in body, answer=future)
        self._waiting[number] = waiting
        if self._looking is None:
            self._looking = loop.call_later(LOOK_SECONDS, self._look)
        self._outbox.append((number, request))
        self._wake.set()
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError as error:
            raise _unanswered(waiting, "no answer in time") from error
        finally:
            self._waiting.pop(number, None)

    def give_up(self, group: GroupId) -> None:
        self._fail_waiting({group}, "the group has another leader now")

    async def run(self) -> None:
        """Until the stream breaks."""
        reason: DwError = Unavailable("meta.link_closed", "the connection was closed")
        try:
            stream: Any = meta_pb2_grpc.MetaStub(self._channel).Exchange()
            writing = self._tasks.spawn(self._write(stream), name="write")
            try:
                while isinstance(batch := await stream.read(), meta_pb2.ReplyBatch):
                    self._deliver(batch)
            finally:
                writing.cancel()
                stream.cancel()
        except grpc.RpcError as error:
            reason = translate(error, sent=False)
        finally:
            self.broken = True
            for waiting in self._waiting.values():
                if not waiting.answer.done():
                    waiting.answer.set_exception(_unanswered(waiting, reason.message))

    def _deliver(self, batch: meta_pb2.ReplyBatch) -> None:
        now = asyncio.get_running_loop().time()
        for reply in batch.replies:
            waiting = self._waiting.get(reply.id)
            if waiting is None:
                self._silence.over()
                continue
            self._silence.heard(waiting.group, now)
            if not waiting.answer.done():
                waiting.answer.set_result(reply)

    def _look(self) -> None:
        """While somebody waits: does the node answer at all?"""
        self._looking = None
        if not self._waiting or self.broken:
            return
        loop = asyncio.get_running_loop()
        waiting = ((waiting.group, waiting.since) for waiting in self._waiting.values() if not waiting.answer.done())
        silent = self._silence.fallen(waiting, loop.time())
        if silent:
            self._fail_waiting(silent, "it is silent")
        self._looking = loop.call_later(LOOK_SECONDS, self._look)

    def _fail_waiting(self, groups: set[GroupId], why: str) -> None:
        for waiting in self._waiting.values():
            if waiting.group in groups and not waiting.answer.done():
                waiting.answer.set_exception(_unanswered(waiting, why))

    async def _write(self, stream: Any) -> None:
        """Not an iterator handed to gRPC: that one would stay behind, and be complained of, when a stream breaks."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._outbox:
                    batch = self._take()
                    if batch.requests:
                        await stream.write(batch)
        except (grpc.RpcError, asyncio.InvalidStateError):
            stream.cancel()

    def _take(self) -> meta_pb2.RequestBatch:
        """What waits, up to BATCH_BYTES_MAX; nothing of those who gave up."""
        now = asyncio.get_running_loop().time()
        taken: list[meta_pb2.Request] = []
        size = 0
        while self._outbox and size < BATCH_BYTES_MAX:
            number, request = self._outbox.popleft()
            waiting = self._waiting.get(number)
            if waiting is None:
                continue
            waiting.sent, waiting.since = True, now
            taken.append(request)
            size += len(request.proposal) + len(request.question)
        return meta_pb2.RequestBatch(requests=taken)


def _unanswered(waiting: _Waiting, why: str) -> DwError:
    if waiting.mutation and waiting.sent:
        return OutcomeUnknown("meta.no_answer", f"a proposal was sent and got no answer: {why}")
    return Unavailable("meta.no_answer", f"no answer from the node: {why}")


def _failed(name: str, error: BaseException) -> None:
    _log.error("link to a peer failed", task=name, error=repr(error))
