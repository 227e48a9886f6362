"""A cluster in memory with a device a node, rows of blocks in its shards, and somebody who moves them to the newest
layout, one a second; its devices read what they hold in a few seconds when a scrub is ordered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from dwd.base.blocks import StoredBlock
from dwd.base.errors import Unavailable
from dwd.base.ids import CONTROL_GROUP, BlockId, DeviceId, GroupId, LayoutEpoch, NodeId, hex_id, stamp_of
from dwd.blocks.core.layout import Layout, encode_layout
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.layouts import AUTOMATIC_SETTING, is_automatic
from dwd.blocks.reading import locations
from dwd.blocks.topology import layout_devices
from dwd.jobs.kinds import JobKind
from dwd.lifecycle.core.facts import Space
from dwd.lifecycle.device_drain import DeviceDrainKind, DeviceUndrainKind
from dwd.lifecycle.device_facts import ScrubProgress
from dwd.lifecycle.device_retire import DeviceRetireKind
from dwd.lifecycle.gather import Survey
from dwd.lifecycle.scrub import ScrubKind
from dwd.meta.core.control.commands import (
    AddDevice,
    ApplyLayout,
    CreateBucket,
    CreateUser,
    SetDeviceDraining,
    SetDeviceState,
    SetSetting,
)
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import DeviceRow, DeviceState
from dwd.meta.core.shard.answer import answer
from dwd.meta.core.shard.commands import PutObject, UpdateBlock
from dwd.meta.core.shard.queries import BlockPage
from dwd.node.topology import ControlTopology
from tests.twins.job_cluster import JobCluster, JobNode

NOBODY = NodeId(0)
SHARDS = (GroupId(1), GroupId(2))
BLOCK_BYTES = 1_000
PASS_SECONDS = 3.0
MOVE_SECONDS = 1.0
PARTITIONS = 16


def device_on(node: int) -> DeviceId:
    return DeviceId(0xD0 + node)


@dataclass
class Reading:
    """A device's pass, or its last one."""

    order: str
    began: float
    full_speed: bool


@dataclass
class DeviceWorld:
    """`stuck`: no block moves. `silent`: their nodes take no orders. `away`: they do not answer at all."""

    cluster: JobCluster
    stuck: bool = False
    room: int = 1 << 40
    silent: set[NodeId] = field(default_factory=set)
    away: set[NodeId] = field(default_factory=set)
    readings: dict[DeviceId, Reading] = field(default_factory=dict)
    begun: list[tuple[DeviceId, str, bool]] = field(default_factory=list)
    dropped: list[tuple[NodeId, str]] = field(default_factory=list)
    moved_to: int = 0
    """The layout that every row names."""

    def furnish(self) -> None:
        for node in self.cluster.nodes:
            self.apply(AddDevice(device=device_on(node), node=node, weight=10, capacity_bytes=1 << 40))
        self.place()
        self.apply(CreateUser(name="u"))
        made = self.cluster.apply(NOBODY, CONTROL_GROUP, CreateBucket(name="b", owner="u", profile="replica-3"), None)
        for shard in SHARDS:
            blocks = tuple(self._block() for _ in range(int(shard)))
            size = sum(block.length for block in blocks)
            put = PutObject(bucket="b", key="a", bucket_epoch=made.count, size=size, etag="e", blocks=blocks)
            self.cluster.apply(NOBODY, shard, put, None)
        self.cluster.loop.call_later(MOVE_SECONDS, self._tick)

    def _block(self) -> StoredBlock:
        block = BlockId(stamp_of(self.cluster.clock.unix_ms()).to_bytes(8) + self.cluster.rng.token_bytes(8))
        return StoredBlock(
            block=block, profile="replica-3", length=BLOCK_BYTES, crc32c=0, layout_epoch=LayoutEpoch(1)
        )  # fmt: skip

    def apply(self, command: Any) -> None:
        self.cluster.apply(NOBODY, CONTROL_GROUP, command, None)

    def topology(self) -> Topology:
        return self.cluster.machines[CONTROL_GROUP].topology()

    @cached_property
    def blocks(self) -> ControlTopology:
        return ControlTopology(NodeId(1), next(iter(self.cluster.nodes.values())))  # type: ignore[arg-type]

    def row(self, node: int) -> DeviceRow:
        found = self.topology().device(device_on(node))
        if found is None:
            raise LookupError(node)
        return found

    def planned(self, *, also: Collection[DeviceId] = ()) -> Layout | None:
        """The layout that follows; None where the newest is right."""
        view, newest = self.blocks, self.topology().layout
        views = [replace(v, writable=True) if v.device in also else v for v in view.devices().values()]
        wanted = layout_devices(views)
        present = None if newest is None else view.layout()
        if present is not None and not also and {d.device for d in present.devices} == {d.device for d in wanted}:
            return None
        epoch = LayoutEpoch(1 if newest is None else newest.epoch + 1)
        return plan_layout(wanted, epoch=epoch, previous=present, partitions=PARTITIONS)

    def place(self, *, also: Collection[DeviceId] = ()) -> None:
        """What the layout worker does, or an operator who wants `also`."""
        layout = self.planned(also=also)
        if layout is not None:
            self.apply(ApplyLayout(epoch=layout.epoch, layout=encode_layout(layout)))

    def rows(self, shard: GroupId) -> tuple[StoredBlock, ...]:
        page = answer(self.cluster.machines[shard].tx, BlockPage(first=0, last=0xFFFF))
        return tuple(owned.stored for owned in page.blocks)  # type: ignore[attr-defined]

    def held_by(self, node: int) -> int:
        """How many blocks have a fragment on that node's device, by the rows."""
        view = self.blocks
        found = [locations(view, stored).values() for shard in SHARDS for stored in self.rows(shard)]
        return sum(device_on(node) in devices for devices in found)

    def _tick(self) -> None:
        """The workers of layouts and of healing."""
        if is_automatic(self.topology()):
            self.place()
        if not self.stuck:
            self.move(1)
        self.cluster.loop.call_later(MOVE_SECONDS, self._tick)

    def move(self, most: int) -> None:
        newest = self.blocks.layout().epoch
        if newest == self.moved_to:
            return
        behind = [(s, stored) for s in SHARDS for stored in self.rows(s) if stored.layout_epoch < newest]
        for shard, stored in behind[:most]:
            moved = UpdateBlock(old=stored, new=replace(stored, layout_epoch=newest))
            self.cluster.apply(NOBODY, shard, moved, None)
        if len(behind) <= most:
            self.moved_to = newest

    def drain(self, node: int) -> None:
        self.apply(SetDeviceDraining(device=device_on(node), draining=True))

    def empty(self, node: int) -> None:
        self.drain(node)
        self.place()
        self.move(1_000)

    def lose(self, node: int) -> None:
        self.apply(SetDeviceState(device=device_on(node), state=DeviceState.LOST, reason="test"))

    def leave_layouts_to_operators(self) -> None:
        self.apply(SetSetting(name=AUTOMATIC_SETTING, value="off"))


class WorldFleet:
    """What other nodes tell of their devices and do with them, as `node` hears."""

    def __init__(self, node: JobNode) -> None:
        self._node = node

    async def spaces(self) -> Mapping[DeviceId, Space]:
        world = world_of(self._node.cluster)
        return {row.device: Space(free=world.room, total=1 << 40) for row in world.topology().devices}

    async def devices(self, order: str) -> Mapping[DeviceId, ScrubProgress]:
        await self._node._travel()
        world = world_of(self._node.cluster)
        return {row.device: self._told(world, row, order) for row in world.topology().devices}

    def _told(self, world: DeviceWorld, row: DeviceRow, order: str) -> ScrubProgress:
        answered = row.node not in world.away
        told = ScrubProgress(device=row.device, node=row.node, answered=answered, used_bytes=BLOCK_BYTES)
        reading = world.readings.get(row.device)
        if reading is None or reading.order != order or not answered:
            return told
        share = min(1.0, (self._node.clock.monotonic() - reading.began) / PASS_SECONDS)
        return replace(
            told, order=order, done=share == 1.0, done_bytes=int(share * BLOCK_BYTES), total_bytes=BLOCK_BYTES,
            fragments=int(10 * share), found=int(share),
        )  # fmt: skip

    async def order_scrub(
        self, node: NodeId, order: str, devices: Collection[DeviceId], *, full_speed: bool, cancel: bool = False
    ) -> None:
        await self._node._travel()
        world = world_of(self._node.cluster)
        if node in world.silent | world.away:
            raise Unavailable("test.silent", f"node {node} takes no orders")
        if cancel:
            world.dropped.append((node, order))
        for device in devices:
            if device not in world.readings or world.readings[device].order != order:
                began = self._node.clock.monotonic()
                world.readings[device] = Reading(order=order, began=began, full_speed=full_speed)
                world.begun.append((device, order, full_speed))
        await self._node._travel()


def world_of(cluster: JobCluster) -> DeviceWorld:
    """The cluster's one world, made when first asked for."""
    if "devices" not in cluster.__dict__:
        world = cluster.__dict__["devices"] = DeviceWorld(cluster)
        world.furnish()
    made: DeviceWorld = cluster.__dict__["devices"]
    return made


def kinds(node: JobNode) -> list[JobKind]:
    meta: Any = node
    fleet: Any = WorldFleet(node)
    survey = Survey(meta=meta, topology=ControlTopology(node.id, meta), fleet=fleet, clock=node.clock)
    return [DeviceDrainKind(survey), DeviceUndrainKind(survey), DeviceRetireKind(survey), ScrubKind(meta, fleet)]


def named(node: int) -> str:
    """As operators write it."""
    return hex_id(device_on(node))


async def until(cluster: JobCluster, job: Any, words: str) -> None:
    """The job's blocker says so."""
    async with asyncio.timeout(600):
        while words not in cluster.job(job).blocker:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.2)
