"""Background healing of the shards led here, and handing on what this node's reads found wrong.

Order: rows that say themselves what is wrong (hand-offs, missing fragments), most exposed first; then, while devices
are dead, a walk over all blocks for those that have fragments on them. What fails parks with a reason and is tried
again later; it never stops the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, DwError, NotFound, Unavailable
from dwd.base.ids import BlockId, DeviceId, GroupId, LayoutEpoch, LogIndex
from dwd.base.limits import BLOCK_BYTES
from dwd.base.units import MIB
from dwd.blocks.ports import Owner
from dwd.blocks.reading import locations
from dwd.blocks.repair import Outcome, Repairer
from dwd.blocks.reports import Reports
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.queries import FROM_THE_START
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.meta.settled import Settled
from dwd.observability import metrics
from dwd.raft.core.types import ZERO_INDEX
from dwd.runtime.pacing import TokenBucket
from dwd.runtime.worker import Progress

PLACEMENT_LAST = 0xFFFF
PARKED_MAX = 10_000
PARKED_SECONDS = 5.0
PARKED_SECONDS_MAX = 600.0
"""Each time in vain a block rests twice as long: what cannot be healed now must not be read over and over."""
WALK_SECONDS = 600.0
"""A finished walk is repeated after this while the same devices are dead."""
PARKED_DOUBLINGS_MAX = 7
CALL_SECONDS = 10.0
BLOCK_SECONDS = 60.0

_REPAIRS = metrics.counter("dwd.blocks.repairs", "Blocks looked at by repair, by outcome", "{block}")
_log = structlog.get_logger("dwd.blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairOptions:
    page: int = 64
    at_once: int = 4
    """Blocks repaired side by side."""
    bytes_per_second: int = 256 * MIB
    """Of blocks looked at, on average."""
    idle_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A block that could not be made whole, why, and when to try again (monotonic seconds)."""

    reason: str
    again_at: float
    tries: int


@dataclass(slots=True)
class _Walk:
    """Progress over one shard for one set of dead devices. `done_at`: monotonic seconds, None while walking."""

    dead: frozenset[DeviceId]
    epoch: LayoutEpoch
    after: BlockId = FROM_THE_START
    position: LogIndex = ZERO_INDEX
    """Where the shard stood when it began."""
    hit: bool = False
    """It met blocks on dead devices."""
    done_at: float | None = None

    def is_old(self, now: float) -> bool:
        return self.done_at is not None and now - self.done_at >= WALK_SECONDS


class RepairWorker:
    """Worker "blocks.repair"."""

    name = "blocks.repair"

    def __init__(
        self,
        *,
        repairer: Repairer,
        catalogue: BlockCatalogue,
        topology: Topology,
        clock: Clock,
        options: RepairOptions | None = None,
    ) -> None:
        self._repairer, self._catalogue, self._topology, self._clock = repairer, catalogue, topology, clock
        self._options = options or RepairOptions()
        rate = self._options.bytes_per_second
        self._bytes = TokenBucket(clock, rate=rate, burst=max(rate, BLOCK_BYTES))
        self._after: dict[GroupId, BlockId] = {}
        self._sound = Settled()
        self._walks: dict[GroupId, _Walk] = {}
        self._seen: tuple[frozenset[DeviceId], LayoutEpoch] = (frozenset(), LayoutEpoch(0))
        self.parked: dict[BlockId, Parked] = {}

    @property
    def idle_seconds(self) -> float:
        return self._options.idle_seconds

    async def work(self) -> Progress:
        groups = self._catalogue.groups()
        self._after = {group: self._after.get(group, FROM_THE_START) for group in groups}
        self._walks = {group: walk for group, walk in self._walks.items() if group in groups}
        self._sound.keep(groups)
        self._unpark()
        busy = False
        for group in groups:
            busy |= await self._damaged(group)
            busy |= await self._walk(group)
        return Progress.BUSY if busy else Progress.IDLE

    def _unpark(self) -> None:
        """What waits for devices is tried again as soon as one returns or the layout changes."""
        up = frozenset(d.device for d in self._topology.devices().values() if d.health is DeviceHealth.UP)
        seen = (up, self._topology.layout().epoch)
        if up - self._seen[0] or seen[1] != self._seen[1]:
            self.parked.clear()
        self._seen = seen

    async def _damaged(self, group: GroupId) -> bool:
        position = self._catalogue.position(group)
        if self._sound.holds(group, position, self._clock.monotonic()):
            return False
        answer = await self._catalogue.repair_page(
            group, after=self._after[group], limit=self._options.page,
            deadline=self._clock.monotonic() + CALL_SECONDS,
        )  # fmt: skip
        if not answer.blocks and self._after[group] == FROM_THE_START:
            self._sound.note(group, position)
        self._after[group] = answer.blocks[-1].stored.block if answer.more and answer.blocks else FROM_THE_START
        exposed = sorted(answer.blocks, key=lambda b: (-len(b.stored.missing), -len(b.stored.handoffs)))
        return await self._repair(group, exposed) or answer.more

    async def _walk(self, group: GroupId) -> bool:
        """A page of the walk for blocks on dead devices; False: nothing left to walk."""
        dead, epoch, now = self._repairer.dead(), self._topology.layout().epoch, self._clock.monotonic()
        walk = self._walks.get(group)
        changed = walk is None or walk.dead != dead or walk.epoch != epoch
        if not dead:
            self._walks.pop(group, None)
            return False
        position = self._catalogue.position(group)
        if walk is None or changed or (walk.is_old(now) and (walk.hit or walk.position != position)):
            walk = self._walks[group] = _Walk(dead=dead, epoch=epoch, position=position)
        if walk.done_at is not None:
            return False
        answer = await self._catalogue.block_page(
            group, first=0, last=PLACEMENT_LAST, after=walk.after, limit=self._options.page,
            deadline=now + CALL_SECONDS,
        )  # fmt: skip
        hit = [owned for owned in answer.blocks if not dead.isdisjoint(self._devices(owned))]
        walk.hit = walk.hit or bool(hit)
        _ = await self._repair(group, hit)
        if answer.more and answer.blocks:
            walk.after = answer.blocks[-1].stored.block
        else:
            walk.done_at = self._clock.monotonic()
        return True

    def _devices(self, owned: OwnedBlock) -> set[DeviceId]:
        try:
            return set(locations(self._topology, owned.stored).values())
        except Unavailable:
            _log.warning("block of an unknown layout", block=owned.stored.block.hex(), epoch=owned.stored.layout_epoch)
            return set()

    async def _repair(self, group: GroupId, blocks: Sequence[OwnedBlock]) -> bool:
        """True: at least one got better."""
        gate = asyncio.Semaphore(self._options.at_once)
        now = self._clock.monotonic()
        due = [b for b in blocks if b.stored.block not in self.parked or self.parked[b.stored.block].again_at <= now]
        better = False

        async def one(owned: OwnedBlock) -> None:
            nonlocal better
            async with gate:
                pause = self._bytes.take(owned.stored.length)
                while pause:
                    await asyncio.sleep(pause)
                    pause = self._bytes.take(owned.stored.length)
                better |= await self._one(group, owned)

        async with asyncio.TaskGroup() as tasks:
            for owned in due:
                _ = tasks.create_task(one(owned))
        return better

    async def _one(self, group: GroupId, owned: OwnedBlock) -> bool:
        block = owned.stored.block
        try:
            outcome = await self._repairer.repair(group, owned, deadline=self._clock.monotonic() + BLOCK_SECONDS)
        except DwError as error:
            _REPAIRS.add(1, outcome="failed")
            _log.warning("block could not be repaired", block=block.hex(), error=str(error))
            self._park(block, error.code)
            return False
        _REPAIRS.add(1, outcome=outcome.value)
        if outcome in {Outcome.WAITING, Outcome.BETTER}:
            self._park(block, "devices are away")
        else:
            self.parked.pop(block, None)
        return outcome is not Outcome.WAITING

    def _park(self, block: BlockId, reason: str) -> None:
        before = self.parked.pop(block, None)
        if len(self.parked) >= PARKED_MAX:
            self.parked.pop(next(iter(self.parked)))
        tries = before.tries + 1 if before is not None else 0
        rest = min(PARKED_SECONDS_MAX, PARKED_SECONDS * 2 ** min(tries, PARKED_DOUBLINGS_MAX))
        self.parked[block] = Parked(reason=reason, again_at=self._clock.monotonic() + rest, tries=tries)


class ReportWorker:
    """Worker "blocks.reports": makes what reads found wrong durable, by naming it missing in the block's row.

    The leader of the shard repairs it from there, wherever that is.
    """

    name = "blocks.reports"
    idle_seconds = 5.0

    def __init__(
        self,
        *,
        reports: Reports,
        catalogue: BlockCatalogue,
        group_of: Callable[[Owner], GroupId],
        clock: Clock,
        page: int = 64,
    ) -> None:
        self._reports, self._catalogue, self._group_of = reports, catalogue, group_of
        self._clock, self._page = clock, page

    async def work(self) -> Progress:
        waiting = deque(self._reports.take(self._page))
        while waiting:
            report = waiting.popleft()
            old = report.block
            missing = tuple(sorted({*old.missing, *report.indexes}))
            new = replace(
                old, missing=missing, handoffs=tuple(h for h in old.handoffs if h.index not in report.indexes)
            )  # fmt: skip
            try:
                await self._catalogue.update_block(
                    self._group_of(report.owner), old, new, deadline=self._clock.monotonic() + CALL_SECONDS
                )
            except (NotFound, Conflict):
                continue
            except DwError:
                self._reports.put_back((report, *waiting))
                raise
        return Progress.BUSY if len(self._reports) else Progress.IDLE
