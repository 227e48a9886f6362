"""Upkeep of this node's devices: the index flushed, sparse volumes compacted, orphans removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Corrupt, NotFound
from dwd.base.ids import BlockId, DeviceId, hex_id, stamp_of
from dwd.base.limits import ORPHAN_GRACE_SECONDS
from dwd.blocks.device import Device, DeviceState
from dwd.blocks.ports import Owner
from dwd.blocks.service import LocalFragments
from dwd.blocks.volumes.compaction import compact, sparse_volume
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.volumes.volumes import OVERLAY_FLUSH_ROWS, Volumes
from dwd.observability import metrics
from dwd.runtime.worker import Progress

ORPHANS_NOTED_MAX = 100_000
OWNER_SECONDS = 30.0

_COMPACTED = metrics.counter("dwd.blocks.compacted", "Bytes copied out of sparse volumes", "By")
_ORPHANS = metrics.counter("dwd.blocks.orphans", "Fragments removed because no block row names them", "{fragment}")
_log = structlog.get_logger("dwd.blocks")


class IndexWorker:
    """Worker "blocks.index": moves what memory knows of new fragments into the index."""

    name = "blocks.index"
    idle_seconds = 5.0

    def __init__(self, local: LocalFragments) -> None:
        self._local = local

    async def work(self) -> Progress:
        busy = False
        for volumes in open_volumes(self._local):
            if volumes.overlay_rows:
                await volumes.flush()
                busy |= volumes.overlay_rows >= OVERLAY_FLUSH_ROWS
        return Progress.BUSY if busy else Progress.IDLE


class CompactionWorker:
    """Worker "blocks.compaction": one sparse volume at a time."""

    name = "blocks.compaction"
    idle_seconds = 60.0

    def __init__(self, local: LocalFragments) -> None:
        self._local = local

    async def work(self) -> Progress:
        for volumes in open_volumes(self._local):
            segment = await sparse_volume(volumes)
            if segment is not None:
                _COMPACTED.add(await compact(volumes, segment))
                return Progress.BUSY
        return Progress.IDLE


class BlockOwner(Protocol):
    """Asks the shards that now own the keys, linearizably."""

    async def exists(self, blocks: Sequence[tuple[BlockId, Owner]], *, deadline: float) -> frozenset[BlockId]:
        """Those of `blocks` that some row names (a lease of an upload and a row waiting for collection count).
        Raises when any shard concerned does not answer: then nothing is known.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanOptions:
    grace_seconds: float = ORPHAN_GRACE_SECONDS
    """A fragment younger than this is nobody's business; twice disowned this far apart, it goes."""
    page: int = 256
    idle_seconds: float = 600.0


class OrphanWorker:
    """Worker "blocks.orphans": fragments that no row names are removed after being disowned twice a grace apart.

    Hazard: a row that appears after the second answer would lose its fragments. Block ids carry the time they were
    made, and shards refuse blocks older than half the grace that no upload leases (metadata), so none can appear.
    """

    name = "blocks.orphans"

    def __init__(
        self, *, local: LocalFragments, owner: BlockOwner, clock: Clock, options: OrphanOptions | None = None
    ) -> None:
        self._local, self._owner, self._clock = local, owner, clock
        self._options = options or OrphanOptions()
        self._after: dict[DeviceId, FragmentKey] = {}
        self._disowned: dict[FragmentKey, float] = {}

    @property
    def idle_seconds(self) -> float:
        return self._options.idle_seconds

    async def work(self) -> Progress:
        busy = False
        for device in self._local.devices():
            if device.state is DeviceState.OPEN:
                busy |= await self._sweep(device)
        return Progress.BUSY if busy else Progress.IDLE

    async def _sweep(self, device: Device) -> bool:
        """One page of old fragments of a device; True: there are more."""
        volumes, options = device.volumes, self._options
        await volumes.flush()
        before = stamp_of(max(0, self._clock.unix_ms() - int(options.grace_seconds * 1000))).to_bytes(8)
        after = self._after.get(device.id, FragmentKey(BlockId(b""), 0))
        page = await volumes.run(lambda: volumes.index.page(after, options.page, before))
        owners: dict[FragmentKey, Owner] = {}
        for key, _ in page:
            try:
                owners[key] = (await device.get(key, 0, 0)).head.owner
            except (NotFound, Corrupt):
                continue
        known = await self._owner.exists(
            tuple({key.block: (key.block, owner) for key, owner in owners.items()}.values()),
            deadline=self._clock.monotonic() + OWNER_SECONDS,
        )
        await self._remove(device, [key for key in owners if key.block not in known])
        for key in owners:
            if key.block in known:
                self._disowned.pop(key, None)
        if len(page) < options.page:
            self._after.pop(device.id, None)
            return False
        self._after[device.id] = page[-1][0]
        return True

    async def _remove(self, device: Device, disowned: Sequence[FragmentKey]) -> None:
        now, grace = self._clock.monotonic(), self._options.grace_seconds
        if len(self._disowned) >= ORPHANS_NOTED_MAX:  # what is long due and was not seen again went some other way
            seen = frozenset(disowned)
            self._disowned = {k: noted for k, noted in self._disowned.items() if k in seen or now - noted < 2 * grace}
        due = []
        for key in disowned:
            if key not in self._disowned and len(self._disowned) < ORPHANS_NOTED_MAX:
                self._disowned[key] = now
            elif now - self._disowned.get(key, now) >= grace:
                due.append(key)
        if due:
            await device.delete(due)
            _ORPHANS.add(len(due))
            _log.info("orphans removed", device=hex_id(device.id), count=len(due))
            for key in due:
                self._disowned.pop(key, None)


def open_volumes(local: LocalFragments) -> list[Volumes]:
    return [device.volumes for device in local.devices() if device.state is DeviceState.OPEN]
