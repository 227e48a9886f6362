"""The load: clients that put, get, swap, delete and list through whichever node they are at, and note what they saw."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dwd.base.errors import Conflict, DwError, NotFound, OutcomeUnknown
from dwd.meta.core.shard.commands import DeleteObject, Precondition, PutObject
from dwd.meta.core.shard.queries import HeadObject, ListObjects
from tests.linearizability.events import Event, Op, listing
from tests.sim.network import GRID_SECONDS

if TYPE_CHECKING:
    from dwd.meta.client import MetaClient
    from dwd.meta.core.receipt import Receipt
    from tests.sim.process import SimNode
    from tests.sim.world import World

BUCKET = "b"
PATIENCE_SECONDS = 2.0
BURST_SECONDS = 0.002
REFUSALS = ("objects.precondition_failed", "objects.no_such_key")


class Client:
    """One thing at a time. Stays at a node while it answers."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._name = f"c{number}"
        self._rng = world.workload_rng
        self._at = number % len(world.nodes)
        self._written = 0
        self._seen: dict[str, str | None] = {}
        """What it last read or wrote of each key, for swaps."""

    async def act(self) -> None:
        """One operation at the present node, or a move to another."""
        node = self._world.nodes[self._at]
        if not node.ready:
            self._at = self._rng.below(len(self._world.nodes))
            return
        self._world.counts["operations"] += 1
        key = f"k{self._rng.below(self._world.plan.keys):02}"
        chance = self._rng.below(100)
        if chance < 50:
            await self.get(node, key)
        elif chance < 70:
            await self._put(node, key)
        elif chance < 88:
            await self._swap(node, key)
        elif chance < 96:
            await self._delete(node, key)
        else:
            await self._list(node)

    # -- operations ---------------------------------------------------------------------------------------------

    async def get(self, node: SimNode, key: str, *, patience: float = PATIENCE_SECONDS) -> bool:
        """Whether it was answered."""
        invoked = self._world.loop.time()

        async def work(client: MetaClient) -> str | None:
            answer = await client.read(HeadObject(bucket=BUCKET, key=key), deadline=invoked + patience)
            return None if answer.object is None else answer.object.etag

        try:
            value = await node.run(work)
        except (DwError, asyncio.CancelledError):
            self._moved()
            return False
        self._seen[key] = value
        self._note(Op.GET, key, None, invoked, result=value)
        return True

    async def _put(self, node: SimNode, key: str) -> None:
        value = self._new_value()
        await self._change(node, Op.PUT, key, value, value, _put(key, value))

    async def _swap(self, node: SimNode, key: str) -> None:
        expected, value = self._seen.get(key), self._new_value()
        condition = Precondition(if_none_match=("*",)) if expected is None else Precondition(if_match=(expected,))
        await self._change(node, Op.PUT_IF, key, (expected, value), value, _put(key, value, condition))

    async def _delete(self, node: SimNode, key: str) -> None:
        await self._change(node, Op.DELETE, key, None, None, DeleteObject(bucket=BUCKET, key=key, bucket_epoch=1))

    async def _list(self, node: SimNode) -> None:
        invoked = self._world.loop.time()

        async def work(client: MetaClient) -> dict[str, str]:
            answer = await client.list_objects(
                ListObjects(bucket=BUCKET, limit=1_000), deadline=invoked + PATIENCE_SECONDS
            )
            return {row.key: row.etag for row in answer.objects}

        try:
            shown = await node.run(work)
        except (DwError, asyncio.CancelledError):
            self._moved()
            return
        keys = [f"k{number:02}" for number in range(self._world.plan.keys)]
        self._world.history += listing(
            process=self._name, keys=keys, shown=shown, invoked=invoked, returned=self._world.loop.time()
        )

    async def _change(
        self, node: SimNode, op: Op, key: str, argument: Any, value: str | None, command: PutObject | DeleteObject
    ) -> None:
        invoked = self._world.loop.time()

        async def work(client: MetaClient) -> Receipt:
            return await client.keyed(command, deadline=invoked + PATIENCE_SECONDS)

        under_way = Event(process=self._name, op=op, key=key, argument=argument, invoked=invoked, returned=None)
        self._world.under_way[under_way] = None
        try:
            receipt = await node.run(work)
        except asyncio.CancelledError:
            self._unknown(op, key, argument, invoked)
        except OutcomeUnknown:
            self._unknown(op, key, argument, invoked)
        except (Conflict, NotFound) as error:
            if op is Op.PUT_IF and error.code in REFUSALS:
                self._seen.pop(key, None)
                self._note(op, key, argument, invoked, result=False)
        except DwError:
            self._moved()  # it says that nothing was changed: held against it, for the value is in no event
        else:
            self._seen[key] = value
            self._note(op, key, argument, invoked, result=True if op is Op.PUT_IF else receipt.existed)
            if value is not None:
                self._world.acknowledged(key, receipt.index, value)
        finally:
            del self._world.under_way[under_way]

    # -- notes --------------------------------------------------------------------------------------------------

    def _new_value(self) -> str:
        self._written += 1
        return f"{self._name}.{self._written}."

    def _note(self, op: Op, key: str, argument: Any, invoked: float, *, result: Any) -> None:
        self._world.history.append(
            Event(
                process=self._name,
                op=op,
                key=key,
                argument=argument,
                invoked=invoked,
                returned=self._world.loop.time(),
                result=result,
            )
        )

    def _unknown(self, op: Op, key: str, argument: Any, invoked: float) -> None:
        self._world.counts["unknown"] += 1
        self._seen.pop(key, None)
        self._world.history.append(
            Event(process=self._name, op=op, key=key, argument=argument, invoked=invoked, returned=None)
        )
        self._moved()

    def _moved(self) -> None:
        self._world.counts["failed"] += 1
        self._at = self._rng.below(len(self._world.nodes))


class Crowd:
    """All clients. They come in bursts of different sizes, so many a second that the plan's load is met."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.workload_rng
        self.clients = [Client(world, number) for number in range(world.plan.clients)]
        self._idle = list(self.clients)

    async def run(self) -> None:
        plan, loop = self._world.plan, self._world.loop
        while self._world.busy:
            size = 1 + self._rng.below(plan.burst_max)
            for _ in range(min(size, len(self._idle))):
                client = self._idle.pop(self._rng.below(len(self._idle)))
                loop.call_later(loop.until_tick(self._rng.uniform(0, BURST_SECONDS), GRID_SECONDS), self._send, client)
            await asyncio.sleep(self._rng.uniform(0, 2) * size / plan.operations_per_second)

    def _send(self, client: Client) -> None:
        task = self._world.loop.create_task(client.act())
        task.add_done_callback(lambda done: self._returned(client, done))

    def _returned(self, client: Client, done: asyncio.Task[None]) -> None:
        self._idle.append(client)
        if not done.cancelled() and done.exception() is not None:
            self._world.watch.report("workload", f"a client met {done.exception()!r}")


def _put(key: str, value: str, precondition: Precondition | None = None) -> PutObject:
    return PutObject(
        bucket=BUCKET, key=key, bucket_epoch=1, size=1, etag=value, inline=b"x",
        precondition=precondition or Precondition(),
    )  # fmt: skip
