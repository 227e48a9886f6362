"""Workers that keep layouts going: a new one when the members changed, the old ones retired.

Devices that are merely down stay in a layout: what they miss goes to others as hand-offs. Several that come or go
within a short time make one layout. Where an operator wants to have a say (`layout.automatic` off), it is staged.

How a layout retires, in this order, so that no row ever names one that nobody knows:
1. the next one has been in force for a while, so writes that were placed before are answered or given up;
2. every shard takes a fence: from then on no row may begin to name it;
3. every shard, asked after that, names it in no row of a block, live or waiting for collection;
4. control marks it retired, and the devices raise their fences (`dwd.blocks.fence`).
"""

from __future__ import annotations

import asyncio

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Busy, Conflict, DwError
from dwd.base.ids import CONTROL_GROUP, LayoutEpoch, stamp_ms
from dwd.blocks.core.layout import Layout, LayoutDevice, decode_layout, encode_layout
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.device_facts import DeviceState
from dwd.blocks.layouts import is_automatic, widths_in_use
from dwd.blocks.service import LocalFragments
from dwd.blocks.topology import Topology, layout_devices
from dwd.meta.client import MetaClient
from dwd.meta.core.control.commands import ApplyLayout, DropStagedLayout, RetireLayouts, StageLayout
from dwd.meta.core.shard.commands import FenceLayouts
from dwd.meta.core.shard.queries import GetCounts
from dwd.runtime.worker import Progress

IDLE_SECONDS = 2.0
PROPOSE_SECONDS = 5.0
SETTLE_TIMES_MAX = 10
"""Changes that go on put a layout off by so many times the settling time at most."""
ASK_SECONDS = 5.0

_log = structlog.get_logger("dwd.blocks")
_Members = tuple[LayoutDevice, ...]


class LayoutWorker:
    """Worker "blocks.layout": a layout over exactly the devices that are members and take data."""

    name = "blocks.layout"

    def __init__(self, *, meta: MetaClient, topology: Topology, clock: Clock, settle_seconds: float) -> None:
        self._meta = meta
        self._topology = topology
        self._clock = clock
        self._settle_seconds = settle_seconds
        self._seen: tuple[_Members, float, float] | None = None
        """Members that no layout stands for yet, since when they are these, and since when they are others."""

    @property
    def idle_seconds(self) -> float:
        """Sooner while members settle."""
        return IDLE_SECONDS if self._seen is None else min(IDLE_SECONDS, max(0.1, self._settle_seconds / 2))

    async def work(self) -> Progress:
        if not self._meta.leads(CONTROL_GROUP):
            self._seen = None
            return Progress.IDLE
        topology = self._meta.view.topology()
        previous = decode_layout(topology.layout.layout) if topology.layout is not None else None
        wanted = tuple(sorted(layout_devices(list(self._topology.devices().values())), key=lambda d: d.device))
        staged = topology.staged_layout
        stale = staged is not None and previous is not None and staged.epoch <= previous.epoch
        if not wanted or (previous is not None and previous.devices == wanted):
            self._seen = None
            return await self._drop() if stale else Progress.IDLE
        if previous is not None and not self._settled(wanted):
            return Progress.IDLE
        if not is_automatic(topology) and previous is not None:
            return Progress.IDLE if staged is not None and not stale else await self._stage(wanted, previous)
        return await self._apply(wanted, previous)

    def _settled(self, wanted: _Members) -> bool:
        now = self._clock.monotonic()
        if self._seen is None:
            self._seen = (wanted, now, now)
        elif self._seen[0] != wanted:
            self._seen = (wanted, now, self._seen[2])
        _, quiet_since, since = self._seen
        return now - quiet_since >= self._settle_seconds or now - since >= self._settle_seconds * SETTLE_TIMES_MAX

    async def _plan(self, wanted: _Members, previous: Layout | None) -> Layout:
        epoch = LayoutEpoch(1 if previous is None else previous.epoch + 1)
        widths = widths_in_use(self._meta.view, previous)
        return await asyncio.to_thread(plan_layout, wanted, epoch=epoch, previous=previous, held_for=widths)

    async def _apply(self, wanted: _Members, previous: Layout | None) -> Progress:
        layout = await self._plan(wanted, previous)
        try:
            await self._meta.control(
                ApplyLayout(epoch=layout.epoch, layout=encode_layout(layout)), deadline=self._deadline()
            )
        except Conflict:
            return Progress.THROTTLED
        self._seen = None
        return Progress.BUSY

    async def _stage(self, wanted: _Members, previous: Layout) -> Progress:
        layout = await self._plan(wanted, previous)
        try:
            await self._meta.control(
                StageLayout(epoch=layout.epoch, layout=encode_layout(layout)), deadline=self._deadline()
            )
        except Conflict:
            return Progress.THROTTLED
        _log.info("layout staged: members changed, and an operator applies layouts here", epoch=layout.epoch)
        return Progress.BUSY

    async def _drop(self) -> Progress:
        await self._meta.control(DropStagedLayout(), deadline=self._deadline())
        return Progress.BUSY

    def _deadline(self) -> float:
        return self._clock.monotonic() + PROPOSE_SECONDS


class RetireWorker:
    """Worker "blocks.retire": retires the layouts that no block lies by any more, oldest first."""

    name = "blocks.retire"
    idle_seconds = 5.0

    def __init__(self, *, meta: MetaClient, clock: Clock, after_seconds: float) -> None:
        """`after_seconds`: how long the next layout must have been in force."""
        self._meta = meta
        self._clock = clock
        self._after_ms = int(after_seconds * 1000)

    async def work(self) -> Progress:
        if not self._meta.leads(CONTROL_GROUP):
            return Progress.IDLE
        below = self._old_enough()
        if below is None:
            return Progress.IDLE
        below = min(below, await self._oldest_in_use(below))
        if not self._in_use_below(below):
            return Progress.IDLE
        for group in self._meta.shards():
            await self._meta.shard(group, FenceLayouts(below=below), deadline=self._deadline())
        below = min(below, await self._oldest_in_use(below))
        if not self._in_use_below(below):
            return Progress.IDLE  # a write that came before the fence: once it is moved, this goes on
        try:
            await self._meta.control(RetireLayouts(below=below), deadline=self._deadline())
        except Busy:
            return Progress.THROTTLED
        _log.info("layouts retired", below=below)
        return Progress.BUSY

    def _old_enough(self) -> LayoutEpoch | None:
        """The newest epoch whose predecessors may all retire as far as time goes."""
        rows = [row for row in self._meta.view.topology().layouts if not row.retired]
        now, found = self._clock.unix_ms(), None
        for successor in rows[1:]:
            if now - stamp_ms(successor.applied) < self._after_ms:
                break
            found = successor.epoch
        return found

    def _in_use_below(self, below: LayoutEpoch) -> bool:
        return any(row.epoch < below and not row.retired for row in self._meta.view.topology().layouts)

    async def _oldest_in_use(self, default: LayoutEpoch) -> LayoutEpoch:
        """That any shard names, by a linearizable answer of each. Raises Unavailable."""
        oldest = default
        for group in self._meta.shards():
            counts = await self._meta.read_group(group, GetCounts(), deadline=self._deadline())
            oldest = min([oldest, *(use.epoch for use in counts.epochs if use.blocks)])
        return oldest

    def _deadline(self) -> float:
        return self._clock.monotonic() + ASK_SECONDS


class FenceWorker:
    """Worker "blocks.fence", on every node: raises the fences of its devices when layouts retire."""

    name = "blocks.fence"
    idle_seconds = 10.0

    def __init__(self, *, local: LocalFragments, meta: MetaClient) -> None:
        self._local = local
        self._meta = meta

    async def work(self) -> Progress:
        in_use = [row.epoch for row in self._meta.view.topology().layouts if not row.retired]
        failure: DwError | None = None
        for device in self._local.devices() if in_use else ():
            try:
                if in_use[0] > device.fence.epoch and device.state is DeviceState.OPEN:
                    await asyncio.to_thread(device.fence.raise_to, in_use[0])
            except DwError as error:
                failure = error
        if failure is not None:
            raise failure
        return Progress.IDLE
