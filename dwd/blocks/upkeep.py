"""Upkeep of this node's devices: the index flushed, sparse volumes compacted."""

from __future__ import annotations

import structlog

from dwd.blocks.device import DeviceState
from dwd.blocks.service import LocalFragments
from dwd.blocks.volumes.compaction import compact, sparse_volume
from dwd.blocks.volumes.volumes import OVERLAY_FLUSH_ROWS, Volumes
from dwd.observability import metrics
from dwd.runtime.worker import Progress

_COMPACTED = metrics.counter("dwd.blocks.compacted", "Bytes copied out of sparse volumes", "By")
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


def open_volumes(local: LocalFragments) -> list[Volumes]:
    return [device.volumes for device in local.devices() if device.state is DeviceState.OPEN]
