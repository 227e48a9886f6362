"""Asks devices that came back whether they hold what the rows say, and names what is missing in the rows.

A device may return with less than it left with: an older copy of its disk, volumes that were damaged or lost. Nobody
might read those blocks for long, so the leader of each shard walks its rows once after any device or its node came (and
once after it began to lead) and asks the devices concerned. Repair does the rest from the rows.

Only presence is asked, from the devices' indexes: a walk reads no fragment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, NotFound, Unavailable
from dwd.base.ids import BlockId, DeviceId, GroupId, hex_id
from dwd.blocks.reading import locations
from dwd.blocks.recount import Recount
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.queries import FROM_THE_START
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.runtime.worker import Progress

PAGE = 256
PAGE_SECONDS = 10.0
PLACEMENT_LAST = 0xFFFF
AGAIN_SECONDS = 30.0
"""A device that did not answer is asked again after this."""

_log = structlog.get_logger("dwd.blocks")


@dataclass(slots=True, kw_only=True)
class _Walk:
    """Over the rows of one shard, for devices and when they came."""

    devices: dict[DeviceId, int]
    after: BlockId = FROM_THE_START
    missing: int = 0


class PresenceWorker:
    """Worker "blocks.presence"."""

    name = "blocks.presence"
    idle_seconds = 2.0

    def __init__(self, *, recount: Recount, catalogue: BlockCatalogue, topology: Topology, clock: Clock) -> None:
        self._recount, self._catalogue, self._topology, self._clock = recount, catalogue, topology, clock
        self._asked: dict[GroupId, dict[DeviceId, int]] = {}
        self._walks: dict[GroupId, _Walk] = {}
        self._again_at: dict[DeviceId, float] = {}

    async def work(self) -> Progress:
        groups = self._catalogue.groups()
        self._asked = {group: self._asked.get(group, {}) for group in groups}
        self._walks = {group: walk for group, walk in self._walks.items() if group in groups}
        busy = False
        for group in groups:
            walk = self._walks.get(group) or self._begin(group)
            if walk is not None:
                await self._step(group, walk)
                busy = True
        return Progress.BUSY if busy else Progress.IDLE

    def _begin(self, group: GroupId) -> _Walk | None:
        """A walk for the devices that came since they were last asked."""
        asked, now = self._asked[group], self._clock.monotonic()
        devices = {
            view.device: view.changed_ms
            for view in self._topology.devices().values()
            if view.health is DeviceHealth.UP
            and asked.get(view.device) != view.changed_ms
            and self._again_at.get(view.device, now) <= now
        }
        if not devices:
            return None
        walk = self._walks[group] = _Walk(devices=devices)
        return walk

    async def _step(self, group: GroupId, walk: _Walk) -> None:
        deadline = self._clock.monotonic() + PAGE_SECONDS
        page = await self._catalogue.block_page(
            group, first=0, last=PLACEMENT_LAST, after=walk.after, limit=PAGE, deadline=deadline
        )
        places = [self._places(owned, walk.devices) for owned in page.blocks]
        asked: dict[DeviceId, list[BlockId]] = {}
        for owned, where in zip(page.blocks, places, strict=True):
            for device in set(where.values()):
                asked.setdefault(device, []).append(owned.stored.block)
        held = await self._recount.ask(asked, verify=False, deadline=deadline)
        for device, answer in held.items():
            if answer is None:
                walk.devices.pop(device, None)
                self._again_at[device] = self._clock.monotonic() + AGAIN_SECONDS
        for owned, where in zip(page.blocks, places, strict=True):
            block = owned.stored.block
            gone = [
                index
                for index, device in where.items()
                if (answer := held.get(device)) is not None and (block, index) not in answer
            ]
            if gone:
                walk.missing += await self._name_missing(group, owned, gone)
        if page.more and page.blocks and walk.devices:
            walk.after = page.blocks[-1].stored.block
            return
        del self._walks[group]
        self._asked[group].update(walk.devices)
        if walk.missing:
            names = sorted(hex_id(device) for device in walk.devices)
            _log.warning("devices came back without fragments", fragments=walk.missing, devices=names, group=group)

    def _places(self, owned: OwnedBlock, devices: Mapping[DeviceId, int]) -> dict[int, DeviceId]:
        """Which fragments of the block the devices asked should hold."""
        try:
            where = locations(self._topology, owned.stored)
        except Unavailable:
            return {}
        return {index: device for index, device in where.items() if device in devices}

    async def _name_missing(self, group: GroupId, owned: OwnedBlock, gone: Sequence[int]) -> int:
        """How many fragments the row now says are missing: none when the block changed meanwhile."""
        old = owned.stored
        new = replace(
            old,
            missing=tuple(sorted({*old.missing, *gone})),
            handoffs=tuple(handoff for handoff in old.handoffs if handoff.index not in gone),
        )
        try:
            await self._catalogue.update_block(group, old, new, deadline=self._clock.monotonic() + PAGE_SECONDS)
        except (NotFound, Conflict):
            return 0
        return len(gone)
