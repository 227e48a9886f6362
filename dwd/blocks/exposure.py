"""How the blocks of the shards led here stand: counted from rows and from who is up, kept fresh in the background.

While every device is up only rows that await repair can be short of fragments, and they are few. When the set of
devices that are down changes, all rows are walked, page by page, and again after a rest that grows with what a walk
costs: a device given up for good stays down, and the count must not be stale for long where it is cheap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import Unavailable
from dwd.base.ids import BlockId, DeviceId, GroupId, LogIndex
from dwd.blocks.core.profiles import Profile, parse_scheme
from dwd.blocks.core.substitutes import one_node
from dwd.blocks.reading import locations
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.queries import FROM_THE_START
from dwd.runtime.worker import Progress

PAGE = 512
PAGE_SECONDS = 10.0
REFRESH_SECONDS = 60.0
"""How old a full count may grow while nothing changes."""
REST_SHARE = 10.0
"""Rest after a full count, as a multiple of the time it took."""
LAST_PLACEMENT = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """`degraded`: short of a fragment, or with one on loan. `at_risk`: one more node lost makes it unreadable; one more
    device where the layout never survived a node.
    """

    degraded: int = 0
    at_risk: int = 0

    def plus(self, *, degraded: bool, at_risk: bool) -> Tally:
        return Tally(degraded=self.degraded + degraded, at_risk=self.at_risk + at_risk)


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One count under way over one shard."""

    down: frozenset[DeviceId]
    began: float
    position: LogIndex
    """Where the shard stood then."""
    devices: object
    """What was known of devices then: another object when any of it has changed."""
    after: BlockId = FROM_THE_START
    tally: Tally = Tally()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Count:
    """A finished walk; good while its shard and the devices stay as they were, and until `until` (monotonic seconds)
    unless other devices go down.
    """

    down: frozenset[DeviceId]
    position: LogIndex
    devices: object
    until: float
    tally: Tally


class ExposureWorker:
    """Worker "blocks.exposure"; `tallies` holds the newest finished count of each shard led here."""

    name = "blocks.exposure"
    idle_seconds = 1.0

    def __init__(self, *, catalogue: BlockCatalogue, topology: Topology, clock: Clock) -> None:
        self._catalogue = catalogue
        self._topology = topology
        self._clock = clock
        self._walks: dict[GroupId, _Walk] = {}
        self._finished: dict[GroupId, _Count] = {}

    def tally(self) -> Tally:
        """The sum over the shards led here."""
        led = set(self._catalogue.groups())
        counts = [count.tally for group, count in self._finished.items() if group in led]
        return Tally(degraded=sum(t.degraded for t in counts), at_risk=sum(t.at_risk for t in counts))

    async def work(self) -> Progress:
        down = frozenset(d.device for d in self._topology.devices().values() if d.health is not DeviceHealth.UP)
        busy = False
        groups = self._catalogue.groups()
        # What was counted of a shard before it was led elsewhere says nothing now.
        self._walks = {group: walk for group, walk in self._walks.items() if group in groups}
        self._finished = {group: count for group, count in self._finished.items() if group in groups}
        for group in groups:
            walk = self._walks.get(group)
            if walk is None or walk.down != down:
                if self._is_recent(group, down):
                    continue
                walk = self._walks[group] = _Walk(
                    down=down, began=self._clock.monotonic(), position=self._catalogue.position(group),
                    devices=self._topology.devices(),
                )  # fmt: skip
            busy |= await self._step(group, walk)
        return Progress.BUSY if busy else Progress.IDLE

    def _is_recent(self, group: GroupId, down: frozenset[DeviceId]) -> bool:
        """Nothing it depends on has changed. Else a count of awaited repairs is cheap and never good enough; a full one
        is, for a while.
        """
        known = self._finished.get(group)
        if known is None or known.down != down:
            return False
        if known.devices is self._topology.devices() and known.position == self._catalogue.position(group):
            return True
        return bool(down) and self._clock.monotonic() < known.until

    async def _step(self, group: GroupId, walk: _Walk) -> bool:
        """One page; True while there are more."""
        deadline = self._clock.monotonic() + PAGE_SECONDS
        if walk.down:
            page = await self._catalogue.block_page(
                group, first=0, last=LAST_PLACEMENT, after=walk.after, limit=PAGE, deadline=deadline
            )
        else:
            page = await self._catalogue.repair_page(group, after=walk.after, limit=PAGE, deadline=deadline)
        for owned in page.blocks:
            degraded, at_risk = self._judge(owned.stored, walk.down)
            walk.tally = walk.tally.plus(degraded=degraded, at_risk=at_risk)
        if page.more and page.blocks:
            walk.after = page.blocks[-1].stored.block
            return True
        now = self._clock.monotonic()
        until = now + min(REFRESH_SECONDS, REST_SHARE * (now - walk.began))
        self._finished[group] = _Count(
            down=walk.down, position=walk.position, devices=walk.devices, until=until, tally=walk.tally
        )
        del self._walks[group]
        return False

    def _judge(self, row: StoredBlock, down: frozenset[DeviceId]) -> tuple[bool, bool]:
        scheme = parse_scheme(row.profile)
        try:
            places = locations(self._topology, row)
        except Unavailable:
            return True, True
        there = {index: device for index, device in places.items() if device not in down}
        at_risk = scheme.parity > 0 and len(there) - self._largest_loss(row, scheme, there) < scheme.data
        return row.needs_repair or len(there) < scheme.fragments, at_risk

    def _largest_loss(self, row: StoredBlock, scheme: Profile, there: Mapping[int, DeviceId]) -> int:
        """The most fragments that go with one failure domain."""
        layout = self._topology.layout_of(row.layout_epoch)
        intended = layout.places(row.block, scheme.fragments) if layout is not None else ()
        views = self._topology.devices()
        nodes = {device: view.node for device, view in views.items()}
        if one_node(intended, nodes) <= scheme.parity:
            return one_node(there.values(), nodes)
        return max(Counter(there.values()).values(), default=0)
