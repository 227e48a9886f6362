"""The walk over the catalogue: from the block rows of the shards led here comes everything that is to be healed.

One pass over a shard finds, row by row, what is missing, dead, on loan, or placed by an older layout
(`dwd.blocks.core.needs`), hands it to the queue of repairs, advances rows whose fragments need not move, asks devices
that came back whether they hold what the rows say (`dwd.blocks.presence`), and counts how the blocks stand.

While every device is up and every row names the newest layout, only rows that say themselves that they await repair
can need anything, and they stand in an index of their own. Else all rows are walked by partition, page by page: again
from the start when devices or layouts change, and again after a rest that grows with what a walk costs.

It is woken by every change of control, so whoever changes devices or layouts has only to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import Unavailable
from dwd.base.ids import BlockId, DeviceId, GroupId, LogIndex
from dwd.blocks.core.needs import Verdict, World, judge, world_of
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.heal_queue import QUEUE_MAX, HealQueue, Item
from dwd.blocks.presence import Presence
from dwd.blocks.reading import locations
from dwd.blocks.tally import Counting, Tally, summed
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.queries import FROM_THE_START, BlockPageAnswer
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.runtime.worker import Progress

PAGE = 512
PAGE_SECONDS = 10.0
REFRESH_SECONDS = 60.0
"""How old a count over all rows may grow while nothing but rows changes."""
REST_SHARE = 10.0
"""Rest after a walk over all rows, as a multiple of the time it took."""
QUEUE_LOW = QUEUE_MAX // 4
"""A walk that found more than the queue holds is repeated once it has drained so far."""
LAST_PLACEMENT = 0xFFFF

_log = structlog.get_logger("dwd.blocks")


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One pass under way over one shard. `full`: over all its rows, else over those that await repair."""

    world: World
    full: bool
    quick: bool
    """Between two passes over all rows: what waits for repair is found, nothing is counted."""
    asking: dict[DeviceId, int]
    """Devices that are asked what they hold, and when they came."""
    began: float
    position: LogIndex
    """Where the shard stood then."""
    devices: object
    """What was known of devices then: another object when any of it has changed."""
    after: BlockId = FROM_THE_START
    counting: Counting = field(default_factory=Counting)
    overflowed: bool = False
    lost: set[DeviceId] = field(default_factory=set)
    """Lost devices that some row still names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A finished pass; good while its shard and the devices stay as they were, and until `until` (monotonic seconds)
    unless the world changes.
    """

    walk: _Walk
    until: float
    took_seconds: float


class Walker:
    """Worker "blocks.walk"."""

    name = "blocks.walk"
    idle_seconds = 1.0

    def __init__(
        self,
        *,
        catalogue: BlockCatalogue,
        topology: Topology,
        queue: HealQueue,
        presence: Presence,
        clock: Clock,
        dead_after_ms: int,
    ) -> None:
        self._catalogue, self._topology, self._queue = catalogue, topology, queue
        self._presence, self._clock, self._dead_after_ms = presence, clock, dead_after_ms
        self._walks: dict[GroupId, _Walk] = {}
        self._finished: dict[GroupId, _Done] = {}
        self._looked: dict[GroupId, LogIndex] = {}
        """Where each shard stood when what awaits repair was looked at last."""
        self._free: dict[GroupId, frozenset[DeviceId]] = {}
        """Lost devices that no row names any more."""
        self._seen: tuple[frozenset[DeviceId], int] = (frozenset(), 0)

    def tally(self) -> Tally:
        """The sum over the shards led here, as last counted."""
        total = self.counting()
        return Tally(degraded=total.degraded, at_risk=total.at_risk)

    def counting(self) -> Counting:
        led = set(self._catalogue.groups())
        return summed(done.walk.counting for group, done in self._finished.items() if group in led)

    def walking(self) -> tuple[int, int]:
        """Passes over all rows under way here, and the rows they have seen."""
        full = [walk for walk in self._walks.values() if walk.full]
        return len(full), sum(walk.counting.blocks for walk in full)

    def healed(self, group: GroupId, row: StoredBlock) -> None:
        """A block was made whole: what was counted of it does not wait for the next walk."""
        done, world = self._finished.get(group), self._world()
        if done is not None:
            verdict = self._judge(row, world)
            if verdict is not None:
                done.walk.counting.healed(row, verdict)

    async def work(self) -> Progress:
        world, groups = self._world(), self._catalogue.groups()
        self._keep(groups)
        self._unpark(world)
        _ = self._queue.due()
        busy = False
        for group in groups:
            walk = self._walks.get(group)
            if walk is None or (walk.full and walk.world != self._of(group, world)):
                walk = await self._begin(group, self._of(group, world))
            if walk is not None:
                busy |= await self._step(group, walk)
        return Progress.BUSY if busy else Progress.IDLE

    def _world(self) -> World:
        return world_of(
            self._topology.layout().epoch, self._topology.devices(), self._clock.unix_ms(), self._dead_after_ms
        )

    def _of(self, group: GroupId, world: World) -> World:
        """Without lost devices that no row of the group names: they would be walked for for ever."""
        free = self._free.get(group)
        if not free:
            return world
        return World(epoch=world.epoch, down=world.down - free, dead=world.dead - free, leaving=world.leaving)

    def _keep(self, groups: Sequence[GroupId]) -> None:
        """What was found of a shard before it was led elsewhere says nothing now."""
        self._walks = {group: walk for group, walk in self._walks.items() if group in groups}
        self._finished = {group: done for group, done in self._finished.items() if group in groups}
        self._free = {group: free for group, free in self._free.items() if group in groups}
        self._looked = {group: position for group, position in self._looked.items() if group in groups}
        self._presence.keep(groups)
        self._queue.keep(groups)

    def _unpark(self, world: World) -> None:
        """What waits for devices is tried again as soon as one returns or the layout changes."""
        up = frozenset(self._topology.devices()) - world.down
        if up - self._seen[0] or world.epoch != self._seen[1]:
            _ = self._queue.unpark()
        self._seen = (up, world.epoch)

    async def _begin(self, group: GroupId, world: World) -> _Walk | None:
        """A pass, if something may have changed since the last one."""
        now, position = self._clock.monotonic(), self._catalogue.position(group)
        devices, asking, done = self._topology.devices(), self._presence.due(group), self._finished.get(group)
        quick = False
        if done is not None and not asking and done.walk.world == world and not self._overflowed(done):
            if position == self._looked.get(group, done.walk.position) and done.walk.devices is devices:
                return None
            quick = done.walk.full and now < done.until
        full = not quick and (bool(asking or world.down) or await self._has_older_rows(group, world))
        walk = self._walks[group] = _Walk(
            world=world, full=full, quick=quick, asking=asking, began=now, position=position, devices=devices
        )
        return walk

    def _overflowed(self, done: _Done) -> bool:
        """There was more than the queue held, and it has room again."""
        return done.walk.overflowed and len(self._queue) < QUEUE_LOW

    async def _has_older_rows(self, group: GroupId, world: World) -> bool:
        counts = await self._catalogue.counts(group, deadline=self._clock.monotonic() + PAGE_SECONDS)
        return any(use.epoch < world.epoch and use.blocks for use in counts.epochs)

    async def _step(self, group: GroupId, walk: _Walk) -> bool:
        """One page; True while there are more."""
        page = await self._page(group, walk)
        rows = {owned.stored.block: owned for owned in page.blocks}
        for found in await self._presence.check(group, page.blocks, walk.asking):
            rows[found.stored.block] = found
        behind: list[StoredBlock] = []
        for owned in rows.values():
            self._look(group, owned, walk, behind)
        await self._advance(group, walk, behind)
        if page.more and page.blocks:
            walk.after = page.blocks[-1].stored.block
            return True
        self._finish(group, walk)
        return False

    async def _page(self, group: GroupId, walk: _Walk) -> BlockPageAnswer:
        deadline = self._clock.monotonic() + PAGE_SECONDS
        if walk.full:
            return await self._catalogue.block_page(
                group, first=0, last=LAST_PLACEMENT, after=walk.after, limit=PAGE, deadline=deadline
            )
        return await self._catalogue.repair_page(group, after=walk.after, limit=PAGE, deadline=deadline)

    def _look(self, group: GroupId, owned: OwnedBlock, walk: _Walk, behind: list[StoredBlock]) -> None:
        row = owned.stored
        verdict = self._judge(row, walk.world)
        if verdict is None:
            walk.counting.degraded += 1
            walk.counting.at_risk += 1
            return
        since = self._since(group, row, walk, verdict)
        walk.counting.count(row, verdict, since)
        if verdict.advance:
            behind.append(row)
        elif verdict.cause is not None:
            item = Item(
                group=group, owned=owned, cause=verdict.cause, urgency=verdict.urgency, margin=verdict.margin,
                since_ms=since,
            )  # fmt: skip
            walk.overflowed |= not self._queue.offer(item)

    def _judge(self, row: StoredBlock, world: World) -> Verdict | None:
        """None: the row names a layout that is not known here (yet)."""
        fragments = parse_scheme(row.profile).fragments
        layout = self._topology.layout_of(row.layout_epoch)
        if layout is None:
            _log.warning("block of an unknown layout", block=row.block.hex(), epoch=row.layout_epoch)
            return None
        try:
            where = locations(self._topology, row)
        except Unavailable:
            return None
        nodes = {device: view.node for device, view in self._topology.devices().items()}
        target = self._topology.layout().places(row.block, fragments)
        return judge(row, where, layout.places(row.block, fragments), target, world, nodes)

    def _since(self, group: GroupId, row: StoredBlock, walk: _Walk, verdict: Verdict) -> int:
        """When the block came to need it: at the latest when the last of its devices went away, as far as known."""
        now = self._clock.unix_ms()
        views = self._topology.devices()
        names = locations(self._topology, row).values()
        away = [view for device in names if (view := views.get(device)) and view.health is not DeviceHealth.UP]
        walk.lost.update(view.device for view in away if view.health is DeviceHealth.LOST)
        before = self._finished.get(group)
        known = before.walk.counting.exposed.get(row.block) if before is not None and verdict.exposed else None
        went = max((view.down_since_ms for view in away), default=now)
        return min(known if known is not None else now, went, now)

    async def _advance(self, group: GroupId, walk: _Walk, behind: list[StoredBlock]) -> None:
        if behind:
            deadline = self._clock.monotonic() + PAGE_SECONDS
            _ = await self._catalogue.advance(group, tuple(behind), walk.world.epoch, deadline=deadline)

    def _finish(self, group: GroupId, walk: _Walk) -> None:
        self._walks.pop(group, None)
        self._looked[group] = walk.position
        if walk.quick:
            return
        now = self._clock.monotonic()
        took = now - walk.began
        until = now + min(REFRESH_SECONDS, REST_SHARE * took)
        self._finished[group] = _Done(walk=walk, until=until, took_seconds=took)
        self._presence.asked(group, walk.asking)
        if walk.full:
            lost = {v.device for v in self._topology.devices().values() if v.health is DeviceHealth.LOST}
            self._free[group] = frozenset(lost - walk.lost)
