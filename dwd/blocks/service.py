"""The devices of this node, answering for their fragments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from dwd.base.clock import Clock
from dwd.base.errors import DeadlineExceeded, InvalidArgument, Unavailable
from dwd.base.ids import BlockId, DeviceId, hex_id
from dwd.base.limits import BLOCK_BYTES
from dwd.base.units import MIB
from dwd.blocks.budget import ByteBudget
from dwd.blocks.device import Device
from dwd.blocks.device_facts import DeviceStats
from dwd.blocks.fragments import BLOCKS_ASKED_MAX, CopyKey, Fetched, HeldFragment, Purpose, PutFragment
from dwd.blocks.pacing import Pacing
from dwd.blocks.volumes.fragment import FragmentKey

READ_BYTES_MAX = 128 * MIB
"""Fragments being read at once; more wait."""


class LocalFragments:
    """`Fragments` of the devices here. Devices may be added while it serves."""

    def __init__(self, clock: Clock, pacing: Pacing | None = None) -> None:
        self._clock = clock
        self._devices: dict[DeviceId, Device] = {}
        self._reading = ByteBudget(clock, READ_BYTES_MAX)
        self.pacing = pacing or Pacing(clock)

    def add(self, device: Device) -> None:
        self._devices[device.id] = device

    def remove(self, device: DeviceId) -> None:
        self._devices.pop(device, None)

    def devices(self) -> tuple[Device, ...]:
        return tuple(self._devices.values())

    async def put(self, fragment: PutFragment, *, deadline: float) -> None:
        device = self._device(fragment.device)
        async with self._until(deadline), self._paced(device.id, fragment.purpose, len(fragment.content)):
            await device.put((fragment,))

    async def put_many(self, fragments: Sequence[PutFragment], *, deadline: float) -> None:
        """Of one device, in one append."""
        device = self._device(fragments[0].device)
        purpose = min(fragment.purpose for fragment in fragments)
        size = sum(len(fragment.content) for fragment in fragments)
        async with self._until(deadline), self._paced(device.id, purpose, size):
            await device.put(fragments)

    async def get(
        self,
        device: DeviceId,
        key: FragmentKey,
        *,
        offset: int,
        length: int,
        deadline: float,
        purpose: Purpose = Purpose.CLIENT,
    ) -> Fetched:
        here = self._device(device)
        size = min(length, BLOCK_BYTES)
        async with (
            self._until(deadline),
            self._paced(device, purpose, size),
            self._reading.holding(size, deadline=deadline),
        ):
            return await here.get(key, offset, length)

    async def delete(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        self._bounded(len(keys))
        here = self._device(device)
        async with self._until(deadline):
            await here.delete(keys)

    async def delete_copies(self, device: DeviceId, copies: Sequence[CopyKey], *, deadline: float) -> None:
        self._bounded(len(copies))
        here = self._device(device)
        async with self._until(deadline):
            await here.delete_copies(copies)

    async def delete_leftovers(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        self._bounded(len(keys))
        here = self._device(device)
        async with self._until(deadline):
            await here.delete_leftovers(keys)

    async def held(
        self, device: DeviceId, blocks: Sequence[BlockId], *, verify: bool, deadline: float
    ) -> tuple[HeldFragment, ...]:
        self._bounded(len(blocks))
        here = self._device(device)
        async with self._until(deadline):
            return await here.held(blocks, verify=verify)

    async def stats(self) -> tuple[DeviceStats, ...]:
        return tuple([await device.stats() for device in self._devices.values()])

    async def close(self) -> None:
        for device in self._devices.values():
            await device.close()

    def _device(self, device: DeviceId) -> Device:
        found = self._devices.get(device)
        if found is None:
            raise _unavailable(device)
        return found

    def _bounded(self, count: int) -> None:
        if count > BLOCKS_ASKED_MAX:
            raise InvalidArgument("blocks.too_many", f"{count} blocks in one request, at most {BLOCKS_ASKED_MAX}")

    @asynccontextmanager
    async def _paced(self, device: DeviceId, purpose: Purpose, size: int) -> AsyncIterator[None]:
        """Repair waits for its turn; what clients wait tells how fast repair may go."""
        pacer = self.pacing.of(device)
        if purpose is not Purpose.CLIENT:
            await pacer.admit(size, urgent=purpose is Purpose.URGENT)
            yield
            return
        began = self._clock.monotonic()
        try:
            yield
        finally:
            pacer.client_waited(self._clock.monotonic() - began)

    @asynccontextmanager
    async def _until(self, deadline: float) -> AsyncIterator[None]:
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise DeadlineExceeded("blocks.deadline", "no time left to reach the device")
        try:
            async with asyncio.timeout(left):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded("blocks.deadline", "the device did not answer in time") from error


def _unavailable(device: DeviceId) -> Unavailable:
    return Unavailable("blocks.device_not_here", f"device {hex_id(device)} is not on this node")
