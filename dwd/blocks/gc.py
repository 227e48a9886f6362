"""Collecting what nobody refers to any more: blocks given up by metadata, and what broken writes left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.base.ids import BlockId, DeviceId, GroupId, stamp_of
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.fragments import BLOCKS_ASKED_MAX, Fragments
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.writing import Leftovers
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.queries import FROM_THE_START
from dwd.observability import metrics
from dwd.runtime.worker import Progress

CALL_SECONDS = 10.0

_COLLECTED = metrics.counter("dwd.blocks.collected", "Blocks whose fragments were deleted", "{block}")
_log = structlog.get_logger("dwd.blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class GcOptions:
    delay_seconds: float = 10.0
    """A block stays this long after it was given up: reads that began before may still want it."""
    page: int = 256
    idle_seconds: float = 5.0


class GcWorker:
    """Worker "blocks.gc": for each shard led here, fragments of given-up blocks go, then their rows.

    A row stays until every device that may hold something has answered or is lost for good.
    """

    name = "blocks.gc"

    def __init__(
        self,
        *,
        catalogue: BlockCatalogue,
        topology: Topology,
        fragments: Fragments,
        clock: Clock,
        options: GcOptions | None = None,
    ) -> None:
        self._catalogue, self._topology, self._fragments, self._clock = catalogue, topology, fragments, clock
        self._options = options or GcOptions()
        self._after: dict[GroupId, BlockId] = {}

    @property
    def idle_seconds(self) -> float:
        return self._options.idle_seconds

    async def work(self) -> Progress:
        busy = False
        groups = self._catalogue.groups()
        self._after = {group: self._after.get(group, FROM_THE_START) for group in groups}
        for group in groups:
            busy |= await self._page(group)
        return Progress.BUSY if busy else Progress.IDLE

    async def _page(self, group: GroupId) -> bool:
        deadline = self._clock.monotonic() + CALL_SECONDS
        before = stamp_of(self._clock.unix_ms() - int(self._options.delay_seconds * 1000))
        answer = await self._catalogue.gc_page(
            group, before=before, after=self._after[group], limit=self._options.page, deadline=deadline
        )
        self._after[group] = answer.rows[-1].stored.block if answer.more and answer.rows else FROM_THE_START
        gone = await self._collect([row.stored for row in answer.rows])
        if gone:
            _COLLECTED.add(await self._catalogue.ack_gc(group, gone, deadline=self._clock.monotonic() + CALL_SECONDS))
        return answer.more

    async def _collect(self, rows: Sequence[StoredBlock]) -> tuple[BlockId, ...]:
        """Delete what these rows speak of; the blocks that are gone everywhere."""
        work: dict[DeviceId, list[FragmentKey]] = {}
        stays: set[BlockId] = set()
        for row in rows:
            devices = self._devices(row)
            if devices is None:
                stays.add(row.block)
                continue
            for device, indexes in devices.items():
                work.setdefault(device, []).extend(FragmentKey(row.block, index) for index in indexes)
        for device, keys in work.items():
            if not await self._delete(device, keys):
                stays.update(key.block for key in keys)
        return tuple(row.block for row in rows if row.block not in stays)

    def _devices(self, row: StoredBlock) -> dict[DeviceId, set[int]] | None:
        """Where fragments may be: their own places and where they are on loan. None: the layout is not known here."""
        layout = self._topology.layout_of(row.layout_epoch)
        if layout is None:
            return None
        found: dict[DeviceId, set[int]] = {}
        for index, device in enumerate(layout.places(row.block, parse_scheme(row.profile).fragments)):
            found.setdefault(device, set()).add(index)
        for handoff in row.handoffs:
            found.setdefault(handoff.device, set()).add(handoff.index)
        return found

    async def _delete(self, device: DeviceId, keys: Sequence[FragmentKey]) -> bool:
        """True: they are certainly gone."""
        view = self._topology.devices().get(device)
        if view is None or view.health is DeviceHealth.LOST:
            return True
        if view.health is DeviceHealth.DOWN:
            return False
        return await delete_all(self._fragments, self._clock, device, keys)


class LeftoverWorker:
    """Worker "blocks.leftovers": deletes what failed and hedged writes of this node left on devices.

    Best effort: what cannot be deleted now is found by the orphan sweep.
    """

    name = "blocks.leftovers"
    idle_seconds = 2.0

    def __init__(self, *, leftovers: Leftovers, fragments: Fragments, clock: Clock) -> None:
        self._leftovers, self._fragments, self._clock = leftovers, fragments, clock

    async def work(self) -> Progress:
        work: dict[DeviceId, list[FragmentKey]] = {}
        for device, key in self._leftovers.take(BLOCKS_ASKED_MAX):
            work.setdefault(device, []).append(key)
        for device, keys in work.items():
            if not await delete_all(self._fragments, self._clock, device, keys):
                _log.info("fragments left behind until the orphan sweep", device=f"{device:016x}", count=len(keys))
        return Progress.BUSY if len(self._leftovers) else Progress.IDLE


async def delete_all(fragments: Fragments, clock: Clock, device: DeviceId, keys: Sequence[FragmentKey]) -> bool:
    """Delete in pieces; False when the device did not do all of it."""
    try:
        for at in range(0, len(keys), BLOCKS_ASKED_MAX):
            piece = keys[at : at + BLOCKS_ASKED_MAX]
            await fragments.delete(device, piece, deadline=clock.monotonic() + CALL_SECONDS)
    except DwError:
        return False
    return True
