"""Scrubbing of this node's devices: passes begun when they are due, read at the rate that ends them in time, held back
by what clients wait (dwd.blocks.pacing). A pass that an operator ordered goes as fast as clients allow, or as it can.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from dwd.base.clock import Clock
from dwd.base.ids import DeviceId
from dwd.blocks.core.scrubbing import ScrubState, rate_of
from dwd.blocks.device import Device
from dwd.blocks.findings import Findings
from dwd.blocks.scrubber import PIECE_BYTES, DeviceScrub
from dwd.blocks.service import LocalFragments
from dwd.observability import metrics
from dwd.runtime.worker import Progress

CREDIT_SECONDS_MAX = 60.0
"""What was due while the worker was kept from working is read at once for so long, and no more."""

_READ = metrics.counter("dwd.blocks.scrubbed", "Bytes read and verified by scrubbing", "By")


class ScrubWorker:
    """Worker "blocks.scrub". `period_days` follows the cluster's setting."""

    name = "blocks.scrub"
    idle_seconds = 2.0

    def __init__(
        self, *, local: LocalFragments, findings: Findings, period_days: Callable[[], float], clock: Clock
    ) -> None:
        self._local, self._findings, self._clock = local, findings, clock
        self._period_days = period_days
        self._scrubs: dict[DeviceId, DeviceScrub] = {}
        self._credit: dict[DeviceId, tuple[float, float]] = {}
        """Bytes that may be read, and when that was reckoned."""

    @property
    def period_days(self) -> float:
        return self._period_days()

    async def work(self) -> Progress:
        busy = False
        for device in self._local.devices():
            if device.serves:
                busy |= await self._step(await self._scrub_of(device))
        return Progress.BUSY if busy else Progress.IDLE

    def states(self) -> dict[DeviceId, tuple[ScrubState, float]]:
        """What is known of each device's passes, and how many bytes a second it reads of late."""
        return {device: (scrub.state, scrub.rate) for device, scrub in self._scrubs.items()}

    async def order(self, order: str, devices: Collection[DeviceId], *, full_speed: bool) -> None:
        """Begin a pass over those of `devices` that are here and serve, unless this order had one."""
        for device in self._local.devices():
            if device.id in devices and device.serves:
                scrub = await self._scrub_of(device)
                if order not in {scrub.state.current.order, scrub.state.last.order}:
                    await scrub.begin(order=order, full_speed=full_speed)

    async def drop_order(self, order: str) -> None:
        """What is left of its passes goes on at the usual pace."""
        for scrub in self._scrubs.values():
            if scrub.state.current.order == order and scrub.state.current.running:
                scrub.release()

    async def _scrub_of(self, device: Device) -> DeviceScrub:
        scrub = self._scrubs.get(device.id)
        if scrub is None or scrub.device is not device:
            scrub = self._scrubs[device.id] = DeviceScrub(device, self._findings, self._clock)
        await scrub.load()
        return scrub

    async def _step(self, scrub: DeviceScrub) -> bool:
        """Whether more is due at once."""
        now_ms = self._clock.unix_ms()
        if not scrub.state.current.running:
            holds = await scrub.device.volumes.run(scrub.device.volumes.index.holds_anything)
            if not scrub.state.is_due(now_ms, self.period_days, holds=holds):
                return False
            await scrub.begin()
        current = scrub.state.current
        if not current.order and self._due(scrub) <= 0:
            return False
        if not current.full_speed:
            await self._local.pacing.of(scrub.device.id).admit(PIECE_BYTES, urgent=False)
        size = await scrub.step()
        _READ.add(size)
        credit, at = self._credit.get(scrub.device.id, (0.0, self._clock.monotonic()))
        self._credit[scrub.device.id] = credit - size, at
        return scrub.state.current.running and (bool(current.order) or self._due(scrub) > 0)

    def _due(self, scrub: DeviceScrub) -> float:
        """How many bytes may be read now; below 0 for a piece larger than was due."""
        now = self._clock.monotonic()
        credit, at = self._credit.get(scrub.device.id, (0.0, now))
        rate = rate_of(scrub.state.current, self._clock.unix_ms(), self.period_days)
        credit = min(credit + rate * (now - at), rate * CREDIT_SECONDS_MAX)
        self._credit[scrub.device.id] = credit, now
        return credit
