"""Fragments of this node's devices that no row names: *orphans*, of blocks that do not exist, and *strays*, of blocks
whose row names other places (as after a node came back that was given up). Removed only after proof.

The rule: the shard that now owns the key is asked twice, a grace apart, by linearizable reads, and each time does not
name this copy here. Then it never will:
* a block is named for the first time within half the grace after its id was made (meta.block_too_old), or is a row of
  an upload's list already;
* a row begins to name a place only with a copy written for that change, at most half the grace before
  (meta.repair_too_old), so a copy that was here at the first answer is named by the second or never.
What is removed is the copy that was seen: one written since stays, and so does one that compaction moved.

Hazard: this rests on the shards' clocks (hybrid, of leaders) being right to within a quarter of the grace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import Unavailable
from dwd.base.ids import BlockId, DeviceId, Stamp, hex_id, stamp_of
from dwd.base.limits import ORPHAN_GRACE_SECONDS
from dwd.blocks.fragments import CopyKey
from dwd.blocks.ports import Owner
from dwd.blocks.reading import locations
from dwd.blocks.topology import Topology
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.observability import metrics
from dwd.runtime.worker import Progress

NOTED_MAX = 100_000
OWNER_SECONDS = 30.0

_REMOVED = metrics.counter("dwd.blocks.orphans", "Fragments removed because no block row names them", "{fragment}")
_log = structlog.get_logger("dwd.blocks")


class BlockOwner(Protocol):
    """Asks the shards that now own the keys, linearizably."""

    async def rows(self, blocks: Sequence[tuple[BlockId, Owner]], *, deadline: float) -> Mapping[BlockId, StoredBlock]:
        """Rows of those of `blocks` that exist (also in a list that an upload leases). Raises when any shard concerned
        does not answer, or it is not certain which one it is: then nothing is known.
        """
        ...


class SweptDevice(Protocol):
    """An open device here."""

    @property
    def id(self) -> DeviceId: ...

    async def aged(self, after: FragmentKey, limit: int, before: Stamp) -> list[tuple[CopyKey, Owner | None]]:
        """A page of the fragments after `after` whose blocks were made before `before`, with the owners written beside
        them; None: that cannot be read.
        """
        ...

    async def delete_copies(self, copies: Sequence[CopyKey]) -> None: ...


class SweptDevices(Protocol):
    """Those of this node."""

    def devices(self) -> Sequence[SweptDevice]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanOptions:
    grace_seconds: float = ORPHAN_GRACE_SECONDS
    """A fragment of a block younger than this is nobody's business; twice disowned this far apart, it goes."""
    page: int = 256
    idle_seconds: float = 600.0


class OrphanWorker:
    """Worker "blocks.orphans"."""

    name = "blocks.orphans"

    def __init__(
        self,
        *,
        local: SweptDevices,
        owner: BlockOwner,
        topology: Topology,
        clock: Clock,
        options: OrphanOptions | None = None,
    ) -> None:
        self._local, self._owner, self._topology, self._clock = local, owner, topology, clock
        self._options = options or OrphanOptions()
        self._after: dict[DeviceId, FragmentKey] = {}
        self._disowned: dict[tuple[DeviceId, CopyKey], float] = {}
        """When (monotonic seconds) a copy was disowned first."""

    @property
    def idle_seconds(self) -> float:
        return self._options.idle_seconds

    @property
    def noted(self) -> int:
        """Copies disowned once."""
        return len(self._disowned)

    async def work(self) -> Progress:
        busy = False
        for device in self._local.devices():
            busy |= await self._sweep(device)
        return Progress.BUSY if busy else Progress.IDLE

    async def _sweep(self, device: SweptDevice) -> bool:
        """One page of old fragments of a device; True: there are more."""
        options = self._options
        before = stamp_of(max(0, self._clock.unix_ms() - int(options.grace_seconds * 1000)))
        after = self._after.get(device.id, FragmentKey(BlockId(b""), 0))
        page = await device.aged(after, options.page, before)
        owners = {copy: owner for copy, owner in page if owner is not None}
        asked_at = self._clock.monotonic()
        rows = await self._owner.rows(
            tuple({copy.key.block: (copy.key.block, owner) for copy, owner in owners.items()}.values()),
            deadline=asked_at + OWNER_SECONDS,
        )
        named = {copy for copy in owners if self._is_named(device.id, copy.key, rows.get(copy.key.block))}
        for copy in named:
            self._disowned.pop((device.id, copy), None)
        await self._remove(device, [copy for copy in owners if copy not in named], asked_at)
        if len(page) < options.page:
            self._after.pop(device.id, None)
            return False
        self._after[device.id] = page[-1][0].key
        return True

    def _is_named(self, device: DeviceId, key: FragmentKey, row: StoredBlock | None) -> bool:
        if row is None:
            return False
        try:
            return locations(self._topology, row).get(key.index) == device
        except Unavailable:  # a layout that is not known here (yet): nothing is certain
            return True

    async def _remove(self, device: SweptDevice, disowned: Sequence[CopyKey], asked_at: float) -> None:
        """`asked_at`: the answers are not older."""
        grace = self._options.grace_seconds
        now = self._clock.monotonic()
        if len(self._disowned) >= NOTED_MAX:  # what is long due and was not seen again went some other way
            seen = {(device.id, copy) for copy in disowned}
            self._disowned = {k: at for k, at in self._disowned.items() if k in seen or now - at < 2 * grace}
        due = []
        for copy in disowned:
            first = self._disowned.get((device.id, copy))
            if first is None:
                if len(self._disowned) < NOTED_MAX:
                    self._disowned[device.id, copy] = now  # the answer is as old as this at most: counted from its end
            elif asked_at - first >= grace:
                due.append(copy)
        if due:
            await device.delete_copies(due)
            _REMOVED.add(len(due))
            _log.info("orphans removed", device=hex_id(device.id), count=len(due))
            for copy in due:
                self._disowned.pop((device.id, copy), None)
