"""Devices that answer, but slowly: every read and write of this node's fragments takes so much longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from dwd.base.clock import Clock
from dwd.base.ids import DeviceId
from dwd.blocks.fragments import Fetched, Purpose, PutFragment
from dwd.blocks.service import LocalFragments
from dwd.blocks.volumes.fragment import FragmentKey


class SlowFragments(LocalFragments):
    """`LocalFragments` behind a delay that may change while it serves."""

    def __init__(self, clock: Clock, delay_seconds: Callable[[], float]) -> None:
        super().__init__(clock)
        self._delay_seconds = delay_seconds

    async def put(self, fragment: PutFragment, *, deadline: float) -> None:
        await self._wait()
        await super().put(fragment, deadline=deadline)

    async def put_many(self, fragments: Sequence[PutFragment], *, deadline: float) -> None:
        await self._wait()
        await super().put_many(fragments, deadline=deadline)

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
        await self._wait()
        return await super().get(device, key, offset=offset, length=length, deadline=deadline, purpose=purpose)

    async def _wait(self) -> None:
        seconds = self._delay_seconds()
        if seconds > 0:
            await asyncio.sleep(seconds)
