"""The network between the nodes: it delays, drops, duplicates, reorders and cuts, each direction by itself.

What arrives runs in the life of the process it arrives at: a message to a process that died meanwhile is lost, and so
is the answer to one that asked. A process that dies, but not a machine, is noticed by whoever is connected to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dwd.base.errors import DeadlineExceeded, DwError, OutcomeUnknown, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId
from dwd.meta.core.query import Query
from dwd.meta.local import LocalGroups
from dwd.raft.transport import Parcel, SnapshotItem, SnapshotRequest, TransportHandler
from tests.twins.virtual_time import Life, SeededRng, VirtualLoop

A = TypeVar("A")

NOTICE_SECONDS = 0.001
"""Until a connection to a dead process is seen to be broken."""
GRID_SECONDS = 0.001
SNAPSHOT_POLL_SECONDS = 0.1


@dataclass(slots=True)
class Weather:
    """Chances are of one message. Delays are in seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay_min: float = 0.0003
    delay_max: float = 0.003
    late: float = 0.0
    """The chance of a delay of up to `late_seconds` more, by which messages overtake each other."""
    late_seconds: float = 0.3


@dataclass(slots=True, eq=False)
class Endpoint:
    """A running process."""

    node: NodeId
    life: Life
    context: Context
    handler: TransportHandler | None = None
    local: LocalGroups | None = None

    def listening(self) -> TransportHandler:
        """Raises Unavailable when it does not take calls yet, or no longer."""
        if self.handler is None:
            raise Unavailable("sim.refused", "nobody listens there")
        return self.handler


@dataclass(slots=True, eq=False)
class _Pending:
    """Somebody at `source` waits for `target`."""

    source: Endpoint
    target: NodeId
    group: GroupId
    mutation: bool
    future: asyncio.Future[Any]


@dataclass(slots=True)
class Network:
    loop: VirtualLoop
    rng: SeededRng
    weather: Weather = field(default_factory=Weather)
    endpoints: dict[NodeId, Endpoint] = field(default_factory=dict)
    cut: set[tuple[NodeId, NodeId]] = field(default_factory=set)
    sent: int = 0
    watch: Callable[[NodeId, GroupId, Sequence[Parcel]], None] | None = None
    """Sees everything when it is sent."""
    _pending: dict[_Pending, None] = field(default_factory=dict)

    def delay(self) -> float:
        weather = self.weather
        seconds = self.rng.uniform(weather.delay_min, weather.delay_max)
        if weather.late and self.rng.uniform(0, 1) < weather.late:
            seconds += self.rng.uniform(0, weather.late_seconds)
        return self.loop.until_tick(seconds, GRID_SECONDS)

    def send(self, source: Endpoint, target: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        self.sent += 1
        if self.watch is not None:
            self.watch(source.node, group, parcels)
        weather, copies = self.weather, 1
        if (source.node, target) in self.cut or (weather.drop and self.rng.uniform(0, 1) < weather.drop):
            return
        if weather.duplicate and self.rng.uniform(0, 1) < weather.duplicate:
            copies = 2
        endpoint = self.endpoints.get(target)
        if endpoint is None or endpoint.handler is None:
            return
        for _ in range(copies):
            self.loop.call_later(
                self.delay(), self._deliver, endpoint, source.node, group, parcels, context=endpoint.context
            )

    def _deliver(self, endpoint: Endpoint, source: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        if (source, endpoint.node) not in self.cut and endpoint.handler is not None:
            endpoint.handler.received(source, group, parcels)

    def connected(self, one: NodeId, other: NodeId) -> bool:
        return one == other or ((one, other) not in self.cut and (other, one) not in self.cut)

    def gone(self, endpoint: Endpoint, *, noticed: bool) -> None:
        """Its process is dead. `noticed`: its machine lives and says so."""
        if self.endpoints.get(endpoint.node) is endpoint:
            del self.endpoints[endpoint.node]
        for other in tuple(self.endpoints.values()):
            if noticed and other.handler is not None and self.connected(endpoint.node, other.node):
                self.loop.call_later(NOTICE_SECONDS, other.handler.broken, endpoint.node, context=other.context)
        for pending in tuple(self._pending):
            if pending.source is endpoint:
                del self._pending[pending]
            elif pending.target == endpoint.node and noticed:
                self._give_up(pending, "the connection broke")

    def leader_changed(self, source: Endpoint, group: GroupId, leader: NodeId) -> None:
        """As `GrpcPeers.leader_changed`."""
        for pending in tuple(self._pending):
            if pending.source is source and pending.group == group and pending.target != leader:
                self._give_up(pending, "the group has another leader now")

    def _give_up(self, pending: _Pending, why: str) -> None:
        if not pending.future.done():
            pending.future.set_exception(_unanswered(pending.mutation, why))

    async def call(
        self,
        source: Endpoint,
        target: NodeId,
        work: Callable[[Endpoint], Awaitable[A]],
        *,
        seconds: float,
        group: GroupId = CONTROL_GROUP,
        mutation: bool = True,
    ) -> A:
        """`work` in the life of `target`'s process. Raises what that raises, OutcomeUnknown or Unavailable."""
        endpoint = self.endpoints.get(target)
        if endpoint is None or endpoint.local is None:
            await asyncio.sleep(NOTICE_SECONDS)
            raise Unavailable("sim.refused", "nobody listens there")
        if seconds <= 0:
            raise DeadlineExceeded("sim.deadline", "no time is left to ask another node")
        future: asyncio.Future[A] = self.loop.create_future()
        pending = _Pending(source, target, group, mutation, future)
        self._pending[pending] = None
        self.loop.call_later(self.delay(), self._serve, endpoint, pending, work, context=endpoint.context)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError as error:
            raise _unanswered(mutation, "no answer in time") from error
        finally:
            self._pending.pop(pending, None)

    def _serve(self, endpoint: Endpoint, pending: _Pending, work: Callable[[Endpoint], Awaitable[Any]]) -> None:
        if (pending.source.node, endpoint.node) in self.cut:
            return

        async def run() -> None:
            result, failure = None, None
            try:
                result = await work(endpoint)
            except DwError as error:
                failure = error
            except Exception as error:
                self.loop.call_exception_handler({"message": "a call from another node", "exception": error})
                raise
            if (endpoint.node, pending.source.node) not in self.cut:
                self.loop.call_later(self.delay(), _settle, pending, result, failure, context=pending.source.context)

        _ = self.loop.create_task(run(), context=endpoint.context)

    async def stream(self, source: Endpoint, target: NodeId, request: SnapshotRequest) -> AsyncGenerator[Any, None]:
        """A snapshot, item by item, with the sender held back until each has arrived."""
        endpoint = self.endpoints.get(target)
        await asyncio.sleep(self.delay())
        if endpoint is None or endpoint.handler is None or endpoint.life.over:
            raise Unavailable("sim.refused", "nobody listens there")
        items: asyncio.Queue[tuple[SnapshotItem | None, DwError | None]] = asyncio.Queue(1)

        async def pump() -> None:
            failure: DwError | None = None
            handler = endpoint.handler
            try:
                async with aclosing(handler.serve_snapshot(source.node, request)) as served:  # type: ignore[union-attr]
                    async for item in served:
                        await asyncio.sleep(self.delay())
                        while not self.connected(source.node, target):  # noqa: ASYNC110 - what changes is the weather
                            await asyncio.sleep(SNAPSHOT_POLL_SECONDS)
                        await items.put((item, None))
            except DwError as error:
                failure = error
            await items.put((None, failure))

        task = self.loop.create_task(pump(), context=endpoint.context)
        try:
            while True:
                item, failure = await self._next(endpoint, items)
                if failure is not None:
                    raise failure
                if item is None:
                    return
                yield item
        finally:
            task.cancel()

    async def _next(self, endpoint: Endpoint, items: asyncio.Queue[Any]) -> Any:
        while True:
            try:
                async with asyncio.timeout(SNAPSHOT_POLL_SECONDS):
                    return await items.get()
            except TimeoutError:
                if endpoint.life.over:
                    raise Unavailable("sim.broken", "the sender's process is gone") from None


def _settle(pending: _Pending, result: Any, failure: DwError | None) -> None:
    if pending.future.done():
        return
    if failure is None:
        pending.future.set_result(result)
    else:
        pending.future.set_exception(failure)


def _unanswered(mutation: bool, why: str) -> DwError:
    if mutation:
        return OutcomeUnknown("sim.no_answer", f"a proposal was sent and got no answer: {why}")
    return Unavailable("sim.no_answer", f"no answer from the node: {why}")


class SimTransport:
    """`dwd.raft.transport.Transport` of one process."""

    def __init__(self, network: Network, endpoint: Endpoint) -> None:
        self._network = network
        self._endpoint = endpoint

    async def start(self, handler: TransportHandler) -> None:
        self._endpoint.handler = handler

    def send(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        if self._endpoint.handler is not None:
            self._network.send(self._endpoint, node, group, parcels)

    def fetch_snapshot(self, node: NodeId, request: SnapshotRequest) -> AsyncGenerator[SnapshotItem, None]:
        return self._network.stream(self._endpoint, node, request)

    async def close(self) -> None:
        self._endpoint.handler = None


class SimPeers:
    """`dwd.meta.peers.Peers` of one process."""

    def __init__(self, network: Network, endpoint: Endpoint) -> None:
        self._network = network
        self._endpoint = endpoint

    async def propose(self, node: NodeId, group: GroupId, payload: bytes, *, deadline: float) -> Any:
        left = deadline - self._network.loop.time()

        async def work(there: Endpoint) -> Any:
            return await _local(there).propose(group, payload, deadline=self._network.loop.time() + left)

        return await self._network.call(self._endpoint, node, work, seconds=left, group=group)

    async def answer(self, node: NodeId, group: GroupId, query: Query[A], *, deadline: float) -> A:
        left = deadline - self._network.loop.time()

        async def work(there: Endpoint) -> A:
            return await _local(there).answer(group, query, deadline=self._network.loop.time() + left)

        return await self._network.call(self._endpoint, node, work, seconds=left, group=group, mutation=False)

    def leader_changed(self, group: GroupId, leader: NodeId) -> None:
        self._network.leader_changed(self._endpoint, group, leader)


def _local(endpoint: Endpoint) -> LocalGroups:
    if endpoint.local is None:
        raise Unavailable("sim.starting", "the node is not up yet")
    return endpoint.local
