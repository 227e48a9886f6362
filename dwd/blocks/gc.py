"""Collecting what nobody refers to any more: blocks given up by metadata, and what broken writes left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.base.ids import BlockId, DeviceId, GroupId, LogIndex, stamp_of
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.fragments import BLOCKS_ASKED_MAX, Fragments
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.writing import Leftovers
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.queries import FROM_THE_START
from dwd.meta.settled import Settled
from dwd.observability import metrics
from dwd.runtime.pacing import TokenBucket
from dwd.runtime.worker import Progress

CALL_SECONDS = 10.0
WAITING_MAX = 100_000
"""Blocks remembered as done but for devices that are away; one forgotten is deleted again, which does no harm."""
IDLE_SECONDS_MAX = 60.0
DELAY_MARGIN_SECONDS = 2.0
"""For clocks of leaders that differ."""

_COLLECTED = metrics.counter("dwd.blocks.collected", "Blocks whose fragments were deleted", "{block}")
_log = structlog.get_logger("dwd.blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class GcOptions:
    delay_seconds: float = 10.0
    """A block stays this long after it was given up: reads that began before may still want it."""
    page: int = 256
    blocks_per_second: int = 2_000
    idle_seconds: float = 5.0


class GcWorker:
    """Worker "blocks.gc": for each shard led here, fragments of given-up blocks go, then their rows.

    A row stays until every device that may hold something has answered or is lost for good; devices that have answered
    are not asked again.
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
        self._empty = Settled()
        self._seen: dict[GroupId, tuple[LogIndex, float]] = {}
        """The position each group is at, and since when at the latest."""
        self._waiting: dict[BlockId, frozenset[DeviceId]] = {}
        rate = self._options.blocks_per_second
        self._rows = TokenBucket(clock, rate=rate, burst=max(rate, self._options.page))
        self._idle_seconds = self._options.idle_seconds

    @property
    def idle_seconds(self) -> float:
        """Longer each time while nothing can be done but wait for devices."""
        return self._idle_seconds

    async def work(self) -> Progress:
        busy = False
        groups = self._catalogue.groups()
        self._after = {group: self._after.get(group, FROM_THE_START) for group in groups}
        self._empty.keep(groups)
        self._seen = {group: seen for group, seen in self._seen.items() if group in self._after}
        for group in groups:
            busy |= await self._page(group)
        return Progress.BUSY if busy else Progress.IDLE

    async def _page(self, group: GroupId) -> bool:
        now, position = self._clock.monotonic(), self._catalogue.position(group)
        if self._empty.holds(group, position, now):
            return False
        if self._seen.get(group, (None, now))[0] != position:
            self._seen[group] = (position, now)
        deadline = now + CALL_SECONDS
        before = stamp_of(self._clock.unix_ms() - int(self._options.delay_seconds * 1000))
        answer = await self._catalogue.gc_page(
            group, before=before, after=self._after[group], limit=self._options.page, deadline=deadline
        )
        if not answer.rows and self._after[group] == FROM_THE_START and self._is_old(group, now):
            self._empty.note(group, position)
        self._after[group] = answer.rows[-1].stored.block if answer.more and answer.rows else FROM_THE_START
        pause = self._rows.take(len(answer.rows))
        while pause:
            await asyncio.sleep(pause)
            pause = self._rows.take(len(answer.rows))
        gone = await self._collect([row.stored for row in answer.rows])
        if gone:
            _COLLECTED.add(await self._catalogue.ack_gc(group, gone, deadline=self._clock.monotonic() + CALL_SECONDS))
            self._idle_seconds = self._options.idle_seconds
        elif answer.rows and not answer.more:
            self._idle_seconds = min(max(IDLE_SECONDS_MAX, self._options.idle_seconds), 2 * self._idle_seconds)
        return answer.more

    def _is_old(self, group: GroupId, now: float) -> bool:
        """The last change lies so far back that whatever it gave up is shown by now."""
        return now - self._seen[group][1] > self._options.delay_seconds + DELAY_MARGIN_SECONDS

    async def _collect(self, rows: Sequence[StoredBlock]) -> tuple[BlockId, ...]:
        """Delete what these rows speak of; the blocks that are gone everywhere."""
        work: dict[DeviceId, list[FragmentKey]] = {}
        owing: dict[BlockId, set[DeviceId]] = {}
        for row in rows:
            devices = self._devices(row)
            if devices is None:
                continue
            left = self._waiting.pop(row.block, frozenset(devices))
            owing[row.block] = set(left)
            for device in left:
                indexes = devices.get(device, ())
                work.setdefault(device, []).extend(FragmentKey(row.block, index) for index in indexes)
        for device, keys in work.items():
            if await self._delete(device, keys):
                for key in keys:
                    owing[key.block].discard(device)
        for block, left_over in owing.items():
            if left_over and len(self._waiting) < WAITING_MAX:
                self._waiting[block] = frozenset(left_over)
        return tuple(block for block, left_over in owing.items() if not left_over)

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
            try:
                deadline = self._clock.monotonic() + CALL_SECONDS
                await self._fragments.delete_leftovers(device, keys, deadline=deadline)
            except DwError:
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
