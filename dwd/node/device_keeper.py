"""Looks after this node's devices while it runs: notices what went, and brings back what returned."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from dwd.base.errors import DwError
from dwd.base.ids import hex_id
from dwd.blocks.service import LocalFragments
from dwd.node.devices import DeviceOpener, Slot
from dwd.runtime.tasks import Tasks
from dwd.runtime.worker import Progress

_log = structlog.get_logger("dwd.node")


class DeviceKeeper:
    """Worker "node.devices": each device's marker and file system are looked at; a damaged index is rebuilt; a device
    whose directory is back, or takes writes again, is opened. What takes long runs beside, a task a device.
    """

    name = "node.devices"
    idle_seconds = 5.0

    def __init__(self, *, opener: DeviceOpener, fragments: LocalFragments, tasks: Tasks) -> None:
        self._opener, self._fragments, self._tasks = opener, fragments, tasks
        self._under_way: dict[Path, asyncio.Task[None]] = {}

    async def work(self) -> Progress:
        for slot in self._opener.slots:
            running = self._under_way.get(slot.path)
            if running is None or running.done():
                self._under_way[slot.path] = self._tasks.spawn(self._look_after(slot), name=str(slot.path))
        return Progress.IDLE

    async def _look_after(self, slot: Slot) -> None:
        """A disk that hangs holds up this task and no other."""
        try:
            if slot.device is None:
                await self._open(slot)
                return
            await slot.device.check()
            if await slot.device.may_return():
                await slot.device.reopen()
                _log.info("device is back", device=hex_id(slot.device.id), path=str(slot.path))
                if slot.device.lost_places:
                    slot.suspect = "it lost fragments while it was away"
        except DwError as error:
            _log.warning("device stays out of service", path=str(slot.path), code=error.code, error=error.message)

    async def _open(self, slot: Slot) -> None:
        if not await self._opener.is_back(slot):
            return
        await self._opener.open(slot)
        if slot.device is not None:
            self._fragments.add(slot.device)
