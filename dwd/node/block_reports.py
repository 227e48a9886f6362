"""What this node's block store tells operators: its devices, how its blocks stand, a recount from the devices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace

from dwd.admin.context import DeviceReport, Exposure, RecountTotals
from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.base.ids import DeviceId, GroupId
from dwd.blocks.ports import Owner
from dwd.blocks.recount import BlockState, FragmentState, Recount
from dwd.blocks.reports import Reports
from dwd.blocks.service import LocalFragments
from dwd.blocks.topology import Topology
from dwd.blocks.walker import LAST_PLACEMENT, Walker
from dwd.blocks.whereabouts import Remaining, remaining_on
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.client import MetaClient
from dwd.meta.core.shard.queries import FROM_THE_START
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.node.devices import DeviceSet

PAGE = 256
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
        recount: Recount,
        found: Reports,
        meta: MetaClient,
        topology: Topology,
        clock: Clock,
    ) -> None:
        self._devices = devices
        self._local = local
        self._walker = walker
        self._catalogue = catalogue
        self._recount = recount
        self._found = found
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

    async def recount(self, *, verify_pages: bool) -> AsyncIterator[RecountTotals]:
        """Every fragment of the shards led here, asked of its device; totals after each page. What is found missing or
        bad is handed to repair.
        """
        groups = self._catalogue.groups()
        totals = RecountTotals(blocks_total=sum([await self._blocks_of(group) for group in groups]))
        yield totals
        for group in groups:
            after, more = FROM_THE_START, True
            while more:
                deadline = self._clock.monotonic() + PAGE_SECONDS
                page = await self._catalogue.block_page(
                    group, first=0, last=LAST_PLACEMENT, after=after, limit=PAGE, deadline=deadline
                )
                rows = [owned.stored for owned in page.blocks]
                states = await self._recount.recount(rows, verify=verify_pages, deadline=deadline)
                for owned, state in zip(page.blocks, states, strict=True):
                    totals = _count(totals, state)
                    self._hand_on(owned, state)
                more = page.more and bool(rows)
                after = rows[-1].block if rows else after
                yield totals
            totals = replace(totals, groups=(*totals.groups, group))
        yield totals

    def _hand_on(self, owned: OwnedBlock, state: BlockState) -> None:
        for index, (device, kind) in enumerate(state.fragments):
            if device is not None and kind in {FragmentState.BAD, FragmentState.MISSING}:
                owner = Owner(bucket=owned.bucket, key=owned.key)
                self._found.add(owned.stored, owner, index, f"recount_{kind.value}")

    async def _blocks_of(self, group: GroupId) -> int:
        try:
            counts = await self._meta.counts(group, deadline=self._clock.monotonic() + PAGE_SECONDS)
        except DwError:
            return 0
        return counts.blocks


def _count(totals: RecountTotals, state: BlockState) -> RecountTotals:
    kinds = [kind for _, kind in state.fragments]
    away = FragmentState.AWAY in kinds
    return replace(
        totals,
        blocks_done=totals.blocks_done + 1,
        fragments_expected=totals.fragments_expected + len(kinds),
        fragments_found=totals.fragments_found + kinds.count(FragmentState.SOUND),
        fragments_bad=totals.fragments_bad + kinds.count(FragmentState.BAD),
        blocks_degraded=totals.blocks_degraded + (not state.redundant),
        blocks_unreadable=totals.blocks_unreadable + (state.losses_left < 0 and not away),
        blocks_unknown=totals.blocks_unknown + away,
    )
