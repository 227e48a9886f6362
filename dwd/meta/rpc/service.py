"""The other end of `GrpcPeers`: carries out what other nodes ask of the groups here, answers in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog

from dwd.base import wire
from dwd.base.clock import Clock
from dwd.base.errors import DwError, InvariantViolation, OutcomeUnknown, PermissionDenied
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId
from dwd.base.units import MIB
from dwd.meta import codec
from dwd.meta.admission import check_proposal
from dwd.meta.audit import Audit
from dwd.meta.core.outcome import encode_outcome
from dwd.meta.leaderships import LeadingHost, leading_here
from dwd.meta.local import LocalGroups
from dwd.meta.rpc.leaderships import encode_leading
from dwd.meta.rpc.peers import PENDING_MAX
from dwd.pb.meta.v1 import meta_pb2, meta_pb2_grpc
from dwd.rpc.guard import peer_of
from dwd.runtime.tasks import Tasks
from dwd.security.peers import PeerKind

REPLY_BYTES_MAX = 4 * MIB
SECONDS_MAX = 120.0

_log = structlog.get_logger("dwd.meta")


class MetaService(meta_pb2_grpc.MetaServicer):
    """Add with `RpcServer.add(lambda server: meta_pb2_grpc.add_MetaServicer_to_server(service, server))`."""

    def __init__(self, local: LocalGroups, host: LeadingHost, audit: Audit, clock: Clock) -> None:
        self._local = local
        self._host = host
        self._audit = audit
        self._clock = clock

    def register(self, server: grpc.aio.Server) -> None:
        """For `RpcServer.add`."""
        meta_pb2_grpc.add_MetaServicer_to_server(self, server)

    async def Exchange(
        self, request_iterator: AsyncIterator[meta_pb2.RequestBatch], context: Any
    ) -> AsyncIterator[meta_pb2.ReplyBatch]:
        _require_node(context)
        replies = _Replies()
        async with Tasks("meta.exchange", _failed, limit=PENDING_MAX + 1) as tasks:
            _ = tasks.spawn(self._receive(request_iterator, tasks, replies), name="receive")
            while (batch := await replies.take()) is not None:
                yield batch

    async def Testify(self, request: meta_pb2.TestifyRequest, context: Any) -> meta_pb2.TestifyReply:
        _require_node(context)
        said = await self._audit.testify(GroupId(request.group), ReplicaId(request.replica), LogIndex(request.index))
        return meta_pb2.TestifyReply(digest=said.digest, rot=said.rot, quarantined=said.quarantined)

    async def Quarantine(self, request: meta_pb2.QuarantineRequest, context: Any) -> meta_pb2.QuarantineReply:
        _require_node(context)
        await self._audit.quarantine(GroupId(request.group), ReplicaId(request.replica), request.reason)
        return meta_pb2.QuarantineReply()

    async def Suspect(self, request: meta_pb2.SuspectRequest, context: Any) -> meta_pb2.SuspectReply:
        _require_node(context)
        self._audit.suspect(GroupId(request.group), ReplicaId(request.replica), request.reason)
        return meta_pb2.SuspectReply()

    async def TellLeaderships(
        self, request: meta_pb2.TellLeadershipsRequest, context: Any
    ) -> meta_pb2.TellLeadershipsReply:
        _require_node(context)
        return encode_leading(leading_here(self._host))

    async def HandOver(self, request: meta_pb2.HandOverRequest, context: Any) -> meta_pb2.HandOverReply:
        _require_node(context)
        deadline = self._clock.monotonic() + min(request.milliseconds_left / 1000, SECONDS_MAX)
        await self._host.transfer(GroupId(request.group), NodeId(request.to), deadline=deadline)
        return meta_pb2.HandOverReply()

    async def _receive(self, requests: AsyncIterator[meta_pb2.RequestBatch], tasks: Tasks, replies: _Replies) -> None:
        try:
            async for batch in requests:
                for request in batch.requests:
                    try:
                        _ = tasks.spawn(self._carry_out(request, replies), name="request")
                    except DwError as error:
                        replies.add(meta_pb2.Reply(id=request.id, error=wire.encode(error)))
        finally:
            replies.end()

    async def _carry_out(self, request: meta_pb2.Request, replies: _Replies) -> None:
        try:
            replies.add(await self._reply(request))
        except Exception as error:  # noqa: BLE001 - the edge: the caller must get an answer
            if isinstance(error, DwError) and not isinstance(error, InvariantViolation):
                answer = error
            else:
                _log.exception("a request of another node failed")
                answer = _unexpected(request, error)
            replies.add(meta_pb2.Reply(id=request.id, error=wire.encode(answer)))

    async def _reply(self, request: meta_pb2.Request) -> meta_pb2.Reply:
        deadline = self._clock.monotonic() + min(request.milliseconds_left / 1000, SECONDS_MAX)
        group = GroupId(request.group)
        if request.WhichOneof("body") == "proposal":
            check_proposal(group, request.proposal)
            outcome = await self._local.propose(group, request.proposal, deadline=deadline)
            return meta_pb2.Reply(id=request.id, outcome=encode_outcome(outcome))
        answer = await self._local.answer(group, codec.decode_question(request.question), deadline=deadline)
        return meta_pb2.Reply(id=request.id, answer=codec.encode_answer(answer))


def _require_node(context: Any) -> None:
    if peer_of(context).kind is not PeerKind.NODE:
        raise PermissionDenied("meta.nodes_only", "only nodes of the cluster may exchange metadata")


class _Replies:
    """What waits to be sent; bounded by the requests a stream may have open."""

    def __init__(self) -> None:
        self._ready: list[meta_pb2.Reply] = []
        self._wake = asyncio.Event()
        self._ended = False

    def add(self, reply: meta_pb2.Reply) -> None:
        self._ready.append(reply)
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    async def take(self) -> meta_pb2.ReplyBatch | None:
        """What is ready, up to REPLY_BYTES_MAX; None once the caller has ended the stream."""
        await self._wake.wait()
        if self._ended:
            return None
        size, count = 0, 0
        for reply in self._ready:
            size += len(reply.answer) + len(reply.outcome)
            count += 1
            if size >= REPLY_BYTES_MAX:
                break
        batch = meta_pb2.ReplyBatch(replies=self._ready[:count])
        del self._ready[:count]
        if not self._ready:
            self._wake.clear()
        return batch


def _unexpected(request: meta_pb2.Request, error: Exception) -> DwError:
    """Nobody knows how far a request came on which the node stumbled: a proposal may have been made."""
    kind = OutcomeUnknown if request.WhichOneof("body") == "proposal" else DwError
    return kind("meta.unexpected", f"the node failed on the request ({type(error).__name__})")


def _failed(name: str, error: BaseException) -> None:
    _log.error("exchange with a peer failed", task=name, error=repr(error))
