"""Asks devices that came back whether they hold what the rows say, and names what is missing in the rows.

A device may return with less than it left with: an older copy of its disk, volumes that were damaged or lost. Nobody
might read those blocks for long, so the leader of each shard asks, once after any device or its node came, once after
it began to lead, and once a day, in the course of its walk over the rows (`dwd.blocks.walker`). Repair does the rest.

Only presence is asked, from the devices' indexes: a walk reads no fragment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, NotFound, Unavailable
from dwd.base.ids import BlockId, DeviceId, GroupId, hex_id
from dwd.blocks.reading import locations
from dwd.blocks.recount import Recount
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.rows import OwnedBlock

ASK_SECONDS = 10.0
AGAIN_SECONDS = 30.0
"""A device that did not answer is asked again after this."""
DAILY_SECONDS = 86_400.0

_log = structlog.get_logger("dwd.blocks")


class Presence:
    def __init__(self, *, recount: Recount, catalogue: BlockCatalogue, topology: Topology, clock: Clock) -> None:
        self._recount, self._catalogue, self._topology, self._clock = recount, catalogue, topology, clock
        self._asked: dict[GroupId, dict[DeviceId, tuple[int, float]]] = {}
        """Of each device: when it had come, and when it was asked last (monotonic seconds)."""
        self._again_at: dict[DeviceId, float] = {}

    def keep(self, groups: Iterable[GroupId]) -> None:
        self._asked = {group: self._asked.get(group, {}) for group in groups}

    def due(self, group: GroupId) -> dict[DeviceId, int]:
        """The devices to be asked now, and when they came."""
        asked, now = self._asked.get(group, {}), self._clock.monotonic()

        def known(device: DeviceId, changed_ms: int) -> bool:
            before = asked.get(device)
            return before is not None and before[0] == changed_ms and now - before[1] < DAILY_SECONDS

        return {
            view.device: view.changed_ms
            for view in self._topology.devices().values()
            if view.health is DeviceHealth.UP
            and not known(view.device, view.changed_ms)
            and self._again_at.get(view.device, now) <= now
        }

    def asked(self, group: GroupId, devices: Mapping[DeviceId, int]) -> None:
        """All rows of the group were checked with these."""
        now = self._clock.monotonic()
        self._asked.setdefault(group, {}).update({device: (came, now) for device, came in devices.items()})

    async def check(self, group: GroupId, page: Sequence[OwnedBlock], devices: dict[DeviceId, int]) -> list[OwnedBlock]:
        """Ask `devices` for the blocks of a page; rows that say more now. Who does not answer is taken out."""
        if not devices:
            return []
        places = [self._places(owned, devices) for owned in page]
        asked: dict[DeviceId, list[BlockId]] = {}
        for owned, where in zip(page, places, strict=True):
            for device in set(where.values()):
                asked.setdefault(device, []).append(owned.stored.block)
        held = await self._recount.ask(asked, verify=False, deadline=self._clock.monotonic() + ASK_SECONDS)
        for device, answer in held.items():
            if answer is None:
                devices.pop(device, None)
                self._again_at[device] = self._clock.monotonic() + AGAIN_SECONDS
        changed = []
        for owned, where in zip(page, places, strict=True):
            gone = [
                index
                for index, device in where.items()
                if (answer := held.get(device)) is not None and (owned.stored.block, index) not in answer
            ]
            if gone:
                names = sorted({hex_id(where[index]) for index in gone})
                _log.warning("fragments are gone from where they were", block=owned.stored.block.hex(), devices=names)
                changed += await self._name_missing(group, owned, gone)
        return changed

    def _places(self, owned: OwnedBlock, devices: Mapping[DeviceId, int]) -> dict[int, DeviceId]:
        """Which fragments of the block the devices asked should hold."""
        try:
            where = locations(self._topology, owned.stored)
        except Unavailable:
            return {}
        return {index: device for index, device in where.items() if device in devices}

    async def _name_missing(self, group: GroupId, owned: OwnedBlock, gone: Sequence[int]) -> list[OwnedBlock]:
        """The row as it says now; nothing when the block changed meanwhile."""
        old = owned.stored
        new = replace(
            old,
            missing=tuple(sorted({*old.missing, *gone})),
            handoffs=tuple(handoff for handoff in old.handoffs if handoff.index not in gone),
        )
        try:
            await self._catalogue.update_block(group, old, new, deadline=self._clock.monotonic() + ASK_SECONDS)
        except (NotFound, Conflict):
            return []
        return [replace(owned, stored=new)]
