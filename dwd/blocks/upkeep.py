"""Upkeep of this node's devices: the index flushed, sparse volumes compacted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from dwd.base.errors import Corrupt, NotFound
from dwd.base.ids import DeviceId, Stamp
from dwd.blocks.device import Device
from dwd.blocks.device_facts import DeviceState
from dwd.blocks.fragments import CopyKey
from dwd.blocks.ports import Owner
from dwd.blocks.service import LocalFragments
from dwd.blocks.volumes.compaction import Compaction, sparse_volume
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.volumes.volumes import OVERLAY_FLUSH_ROWS, Volumes
from dwd.observability import metrics
from dwd.runtime.worker import Progress

_COMPACTED = metrics.counter("dwd.blocks.compacted", "Bytes of sparse volumes looked through", "By")


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
    """Worker "blocks.compaction": a few megabytes of one sparse volume at a time. `on_bad` is told of fragments that
    proved unreadable on the way.
    """

    name = "blocks.compaction"
    idle_seconds = 60.0

    def __init__(self, local: LocalFragments, on_bad: Callable[[DeviceId, FragmentKey, str], None]) -> None:
        self._local, self._on_bad = local, on_bad
        self._under_way: dict[DeviceId, tuple[Volumes, Compaction]] = {}

    async def work(self) -> Progress:
        busy = False
        for device in self._local.devices():
            if device.state is DeviceState.OPEN:
                busy |= await self._step(device)
        return Progress.BUSY if busy else Progress.IDLE

    async def _step(self, device: Device) -> bool:
        volumes = device.volumes
        opened, compaction = self._under_way.pop(device.id, (None, None))
        if compaction is None or opened is not volumes:
            if compaction is not None:
                compaction.close()
            segment = await sparse_volume(volumes)
            if segment is None:
                return False
            compaction = Compaction(volumes, segment, partial(self._on_bad, device.id))
        try:
            moved = await compaction.step()
        except BaseException:
            compaction.close()
            raise
        if moved is not None:
            self._under_way[device.id] = volumes, compaction
            _COMPACTED.add(moved)
        return True


class SweptHere:
    """The devices of this node, as the orphan sweep sees them."""

    def __init__(self, local: LocalFragments) -> None:
        self._local = local

    def devices(self) -> list[SweptVolumes]:
        return [SweptVolumes(device) for device in self._local.devices() if device.state is DeviceState.OPEN]


class SweptVolumes:
    """Implements `dwd.blocks.orphans.SweptDevice`."""

    def __init__(self, device: Device) -> None:
        self._device = device

    @property
    def id(self) -> DeviceId:
        return self._device.id

    async def aged(self, after: FragmentKey, limit: int, before: Stamp) -> list[tuple[CopyKey, Owner | None]]:
        volumes = self._device.volumes
        await volumes.flush()
        page = await volumes.run(lambda: volumes.index.page(after, limit, before.to_bytes(8)))
        found: list[tuple[CopyKey, Owner | None]] = []
        for key, place in page:
            try:
                owner: Owner | None = (await self._device.get(key, 0, 0)).head.owner
            except (NotFound, Corrupt):
                owner = None
            found.append((CopyKey(key, place.copy), owner))
        return found

    async def delete_copies(self, copies: Sequence[CopyKey]) -> None:
        await self._device.delete_copies(copies)


def open_volumes(local: LocalFragments) -> list[Volumes]:
    return [device.volumes for device in local.devices() if device.state is DeviceState.OPEN]
