"""What this node's block store tells operators: its devices and how its blocks stand."""

from __future__ import annotations

from collections.abc import Collection

from dwd.admin.context import DeviceReport, Exposure
from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.base.ids import DeviceId, GroupId
from dwd.blocks.device_facts import DeviceState
from dwd.blocks.service import LocalFragments
from dwd.blocks.topology import Topology
from dwd.blocks.walker import Walker
from dwd.blocks.whereabouts import Remaining, remaining_on
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.client import MetaClient
from dwd.node.devices import DeviceSet

PAGE_SECONDS = 60.0


class NodeBlockReports:
    """Implements `dwd.admin.context.BlockReports`."""

    def __init__(
        self,
        *,
        devices: DeviceSet,
        local: LocalFragments,
        walker: Walker,
        catalogue: BlockCatalogue,
        meta: MetaClient,
        topology: Topology,
        clock: Clock,
    ) -> None:
        self._devices = devices
        self._local = local
        self._walker = walker
        self._catalogue = catalogue
        self._meta = meta
        self._topology = topology
        self._clock = clock

    async def devices(self) -> tuple[DeviceReport, ...]:
        stats = {found.device: found for found in await self._local.stats()}
        reports = []
        for device in self._devices.local():
            found = stats.get(device.device)
            reports.append(
                DeviceReport(
                    device=device.device,
                    path=str(next(s.path for s in self._devices.slots if s.id == device.device)),
                    weight=device.weight,
                    failed=device.failed,
                    used=found.live_bytes if found is not None else 0,
                    free=found.available_bytes if found is not None else 0,
                    total=found.total_bytes if found is not None else 0,
                    fragments=found.fragments if found is not None else 0,
                    read_only=device.read_only,
                    rebuilding=found is not None and found.state is DeviceState.REBUILDING,
                    reserve=found.reserve_bytes if found is not None else 0,
                    errors=found.errors if found is not None else 0,
                )
            )
        return tuple(reports)

    async def exposure(self) -> Exposure:
        blocks = 0
        for group in self._catalogue.groups():
            blocks += await self._blocks_of(group)
        tally = self._walker.tally()
        return Exposure(blocks=blocks, degraded=tally.degraded, at_risk=tally.at_risk)

    async def remaining_on(self, devices: Collection[DeviceId]) -> Remaining:
        """What the rows of all shards still place on these devices. Raises Unavailable, DeadlineExceeded."""
        return await remaining_on(self._meta, self._topology, devices, deadline=self._clock.monotonic() + PAGE_SECONDS)

    async def _blocks_of(self, group: GroupId) -> int:
        try:
            counts = await self._meta.counts(group, deadline=self._clock.monotonic() + PAGE_SECONDS)
        except DwError:
            return 0
        return counts.blocks
