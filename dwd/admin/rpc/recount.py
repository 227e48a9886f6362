"""A recount of redundancy from the devices: every leader counts its shards, totals are added up as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from dwd.admin.context import TRANSFER_SECONDS, AdminContext, RecountTotals
from dwd.base.errors import Unavailable
from dwd.base.ids import NodeId, hex_id
from dwd.meta.core.control.rows import Liveness
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.pb.admin.v1 import admin_pb2_grpc
from dwd.rpc.calls import translated
from dwd.runtime.tasks import Tasks

WAITING_MAX = 64
_COUNTS = tuple(f.name for f in pb.RecountProgress.DESCRIPTOR.fields if f.name not in {"finished", "groups"})


async def here(context: AdminContext, *, verify_pages: bool) -> AsyncIterator[pb.RecountProgress]:
    """The shards this node leads."""
    totals = RecountTotals()
    async for totals in context.blocks.recount(verify_pages=verify_pages):
        yield _message(totals, finished=False)
    yield _message(totals, finished=True)


def _message(totals: RecountTotals, *, finished: bool) -> pb.RecountProgress:
    counts = {name: getattr(totals, name) for name in _COUNTS}
    return pb.RecountProgress(finished=finished, groups=totals.groups, **counts)


async def everywhere(context: AdminContext, *, verify_pages: bool) -> AsyncIterator[pb.RecountProgress]:
    """Every shard, each at its leader. Raises Unavailable when a node breaks off or a shard changes its
    leader meanwhile.
    """
    nodes = [row.node for row in context.meta.view.topology().nodes if row.liveness is Liveness.UP]
    latest: dict[NodeId, pb.RecountProgress] = {}
    news: asyncio.Queue[BaseException | None] = asyncio.Queue(WAITING_MAX)

    async def follow(node: NodeId) -> None:
        try:
            async for progress in _of(context, node, verify_pages=verify_pages):
                latest[node] = progress
                await news.put(None)
        except Exception as error:  # noqa: BLE001 - handed to whoever reads the totals
            await news.put(error)

    async with asyncio.timeout(TRANSFER_SECONDS):
        tasks = Tasks("admin.recount", lambda _name, _error: None)
        try:
            for node in nodes:
                _ = tasks.spawn(follow(node), name=f"recount {hex_id(node)}")
            finished = False
            while not finished:
                failure = await news.get()
                if failure is not None:
                    raise Unavailable("recount.broken", f"the recount broke off: {failure}", hint="run it again")
                finished = len(latest) == len(nodes) and all(p.finished for p in latest.values())
                counted = sorted(group for progress in latest.values() for group in progress.groups)
                if finished and counted != sorted(context.meta.shards()):  # led by none of them, or by two in turn
                    raise Unavailable("recount.no_leader", "a shard changed its leader meanwhile", hint="run it again")
                yield _sum(latest, finished=finished)
        finally:
            await tasks.close()


async def _of(context: AdminContext, node: NodeId, *, verify_pages: bool) -> AsyncIterator[pb.RecountProgress]:
    if node == context.node:
        async for progress in here(context, verify_pages=verify_pages):
            yield progress
        return
    stub = admin_pb2_grpc.AdminStub(context.channels.to(node))
    request = pb.RecountRequest(verify_pages=verify_pages)
    with translated(sent=False):
        async for progress in stub.NodeRecount(request, timeout=TRANSFER_SECONDS):
            yield progress


def _sum(latest: dict[NodeId, pb.RecountProgress], *, finished: bool) -> pb.RecountProgress:
    counts = {name: sum(getattr(p, name) for p in latest.values()) for name in _COUNTS}
    return pb.RecountProgress(finished=finished, **counts)
