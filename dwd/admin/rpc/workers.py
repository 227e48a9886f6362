"""Background workers of one node or of all."""

from __future__ import annotations

import asyncio

from dwd.admin.context import PEER_SECONDS, AdminContext
from dwd.base.errors import DeadlineExceeded, DwError, InvalidArgument, NotFound, OutcomeUnknown, Unavailable
from dwd.base.ids import NodeId, hex_id
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.pb.admin.v1 import admin_pb2_grpc
from dwd.rpc.calls import call
from dwd.runtime.pacing import PACE_FULL, PACE_MAX


async def list_workers(context: AdminContext, *, local: bool) -> pb.ListWorkersReply:
    """This node's, or those of every node that answers."""
    mine = pb.ListWorkersReply(
        workers=[
            pb.WorkerInfo(
                node=hex_id(context.node),
                name=status.name,
                state=status.state.value,
                runs=status.runs,
                last_error=status.last_error if status.failures_in_row else "",
                pace=status.pace,
            )
            for status in context.workers.snapshot()
        ]
    )
    if local:
        return mine
    others = [row.node for row in context.meta.view.topology().nodes if row.node != context.node]
    for reply in await asyncio.gather(*(_ask(context, node) for node in others)):
        if reply is not None:
            mine.workers.extend(reply.workers)
    return mine


async def _ask(context: AdminContext, node: NodeId) -> pb.ListWorkersReply | None:
    try:
        stub = admin_pb2_grpc.AdminStub(context.channels.to(node))
        return await call(stub.ListWorkers, pb.ListWorkersRequest(local=True), seconds=PEER_SECONDS, mutation=False)
    except DwError:
        return None


async def set_worker(context: AdminContext, request: pb.SetWorkerRequest) -> pb.SetWorkerReply:
    """On the named node, or on all that can be reached. Raises InvalidArgument, NotFound; Unavailable when a node does
    not answer, after all others were told.
    """
    if request.HasField("pace") and not PACE_FULL <= request.pace <= PACE_MAX:
        raise InvalidArgument(
            "worker.bad_pace", f"a pace goes from {PACE_FULL:g} to {PACE_MAX:g}, not {request.pace:g}"
        )
    rows = context.meta.view.topology().nodes
    chosen = [row for row in rows if request.node in {"", row.name, hex_id(row.node)}]
    if not chosen:
        raise NotFound("node.not_found", f"no node {request.node!r}", hint="`dwctl node list` shows them")
    outcomes = await asyncio.gather(*(_set(context, row.node, request) for row in chosen), return_exceptions=True)
    changed = sum(outcome for outcome in outcomes if isinstance(outcome, int))
    failed = [(row, error) for row, error in zip(chosen, outcomes, strict=True) if isinstance(error, BaseException)]
    for _, error in failed:
        if not isinstance(error, Unavailable | DeadlineExceeded | OutcomeUnknown):
            raise error
    if failed:
        names = ", ".join(row.name for row, _ in failed)
        raise Unavailable(
            "worker.not_everywhere",
            f"changed on {changed} of {len(chosen)} nodes; no answer from {names}",
            hint="again once they answer: what is set stays set",
        ) from failed[0][1]
    return pb.SetWorkerReply(changed=changed)


async def _set(context: AdminContext, node: NodeId, request: pb.SetWorkerRequest) -> int:
    if node == context.node:
        _set_here(context, request)
        return 1
    own = pb.SetWorkerRequest()
    own.CopyFrom(request)
    own.node = hex_id(node)
    stub = admin_pb2_grpc.AdminStub(context.channels.to(node))
    reply = await call(stub.SetWorker, own, seconds=PEER_SECONDS, mutation=True)
    return int(reply.changed)


def _set_here(context: AdminContext, request: pb.SetWorkerRequest) -> None:
    if request.HasField("pace"):
        context.workers.set_pace(request.name, request.pace)
    if request.HasField("paused"):
        if request.paused:
            context.workers.pause(request.name)
        else:
            context.workers.resume(request.name)
