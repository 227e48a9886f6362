"""The facts that a plan about a node is made from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from dwd.base.clock import Clock
from dwd.base.errors import Unavailable
from dwd.base.ids import DeviceId, NodeId
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.movement import Load
from dwd.blocks.stored import stored_by_profile
from dwd.blocks.topology import Topology
from dwd.blocks.whereabouts import Remaining, remaining_on
from dwd.lifecycle.core.departure import Departure, plan_departure
from dwd.lifecycle.core.facts import Facts
from dwd.lifecycle.ports import Fleet
from dwd.meta.client import MetaClient
from dwd.meta.core.control.rows import NodeRow

T = TypeVar("T")

ASK_SECONDS = 20.0


class Survey:
    """Looks, and changes nothing."""

    def __init__(self, *, meta: MetaClient, topology: Topology, fleet: Fleet, clock: Clock) -> None:
        self.meta = meta
        self.topology = topology
        self.fleet = fleet
        self.clock = clock

    async def departure(self, node: NodeRow, *, dead: bool, successor: NodeRow | None = None) -> Departure:
        """What the node's leaving would mean now. Raises Unavailable, DeadlineExceeded."""
        facts = await self.facts(node.node)
        return await self.aside(partial(plan_departure, facts, node, dead=dead, successor=successor))

    async def aside(self, work: Callable[[], T]) -> T:
        """Long computations, off the event loop."""
        return await asyncio.to_thread(work)

    async def facts(self, node: NodeId) -> Facts:
        held = await self.remaining(node)
        groups, spaces = await asyncio.gather(self.fleet.groups(), self.fleet.spaces())
        layout = self.layout()
        return Facts(
            topology=self.meta.view.topology(),
            devices=tuple(self.topology.devices().values()),
            layout=layout,
            groups=groups,
            spaces=spaces,
            loads=await self._loads(layout) if layout is not None else (),
            held_blocks=held.blocks,
            held_bytes=held.bytes,
        )

    def devices(self, node: NodeId) -> tuple[DeviceId, ...]:
        """All that the node has or had, given up or not."""
        return tuple(row.device for row in self.meta.view.topology().devices if row.node == node)

    async def remaining(self, node: NodeId) -> Remaining:
        """What rows still place on the node's devices."""
        devices = self.devices(node)
        if not devices:
            return Remaining()
        return await remaining_on(self.meta, self.topology, devices, deadline=self.clock.monotonic() + ASK_SECONDS)

    def layout(self) -> Layout | None:
        """The newest; None before the first."""
        try:
            return self.topology.layout()
        except Unavailable:
            return None

    async def _loads(self, layout: Layout) -> tuple[Load, ...]:
        """Where nothing is stored nothing is lost."""
        deadline = self.clock.monotonic() + ASK_SECONDS
        stored = await stored_by_profile(self.meta, layout, deadline=deadline)
        return tuple(Load(profile=profile, data_bytes=size) for profile, size in stored.items() if size)
