"""Fragments that proved bad on a device of this node, while nobody read their block: by a scrub, by compaction.

Only the key is known for sure, for a bad fragment's own story may be what is bad. So every shard is asked which row
names it, and that row says from then on that the fragment is missing: repair finds it there, whatever becomes of this
node. What no shard names is nobody's; being bad it is worthless too, and is deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import DwError, Unavailable
from dwd.base.ids import BlockId, DeviceId, stamp_of
from dwd.base.limits import ORPHAN_GRACE_SECONDS
from dwd.blocks.ports import Owner
from dwd.blocks.reading import locations
from dwd.blocks.reports import Reports
from dwd.blocks.service import LocalFragments
from dwd.blocks.topology import Topology
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.whereabouts import Shards
from dwd.meta.core.shard.queries import FindBlocks
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.observability import metrics
from dwd.runtime.worker import Progress

FINDINGS_MAX = 10_000
PAGE = 256
ASK_SECONDS = 30.0

_FOUND = metrics.counter("dwd.blocks.bad_on_device", "Fragments found bad on a device before anybody read them", "1")
_DROPPED = metrics.counter("dwd.blocks.findings.dropped", "Bad fragments found but not noted: too many", "{fragment}")
_log = structlog.get_logger("dwd.blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    device: DeviceId
    key: FragmentKey
    cause: str
    """A code: "scrub.blocks.page_checksum"."""


class Findings:
    """Bounded, in memory: a finding that is lost is found again by the next pass."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[DeviceId, FragmentKey], Finding] = {}

    def add(self, device: DeviceId, key: FragmentKey, cause: str) -> None:
        _FOUND.add(1, cause=cause)
        if len(self._waiting) >= FINDINGS_MAX:
            _DROPPED.add(1)
            return
        self._waiting[device, key] = Finding(device=device, key=key, cause=cause)

    def first(self, limit: int) -> list[Finding]:
        return [self._waiting[at] for at in list(self._waiting)[:limit]]

    def done(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self._waiting.pop((finding.device, finding.key), None)

    def __len__(self) -> int:
        return len(self._waiting)


class FindingWorker:
    """Worker "blocks.findings"."""

    name = "blocks.findings"
    idle_seconds = 2.0

    def __init__(
        self,
        *,
        findings: Findings,
        local: LocalFragments,
        reports: Reports,
        topology: Topology,
        shards: Shards,
        clock: Clock,
        grace_seconds: float = ORPHAN_GRACE_SECONDS,
    ) -> None:
        self._findings, self._local, self._reports = findings, local, reports
        self._topology, self._shards, self._clock = topology, shards, clock
        self._grace_ms = int(grace_seconds * 1000)

    async def work(self) -> Progress:
        """Raises Unavailable while a shard does not answer: then it is not known what is nobody's."""
        found = self._findings.first(PAGE)
        if not found:
            return Progress.IDLE
        deadline = self._clock.monotonic() + ASK_SECONDS
        blocks = tuple({finding.key.block for finding in found})
        owned: dict[BlockId, OwnedBlock] = {}
        for group in self._shards.shards():
            answer = await self._shards.read_group(group, FindBlocks(blocks=blocks), deadline=deadline)
            owned.update({row.stored.block: row for row in answer.blocks})
        for finding in found:
            row = owned.get(finding.key.block)
            if row is not None:
                self._hand_on(finding, row)
            else:
                await self._forget(finding)
        self._findings.done(found)
        return Progress.BUSY if len(self._findings) else Progress.IDLE

    def _hand_on(self, finding: Finding, row: OwnedBlock) -> None:
        try:
            place = locations(self._topology, row.stored).get(finding.key.index)
        except Unavailable:
            return  # a layout this node does not know yet: found again by the next pass
        if place != finding.device:
            return  # moved, or known to be missing: nobody reads it here
        owner = Owner(bucket=row.bucket, key=row.key)
        self._reports.add(row.stored, owner, finding.key.index, finding.cause)

    async def _forget(self, finding: Finding) -> None:
        """Of a block so young that its row may still come, it stays until the next pass."""
        young = stamp_of(max(0, self._clock.unix_ms() - self._grace_ms)).to_bytes(8)
        device = next((d for d in self._local.devices() if d.id == finding.device), None)
        if device is None or finding.key.block[:8] > young:
            return
        try:
            await device.delete((finding.key,))
        except DwError as error:
            _log.info("bad fragment stays", block=finding.key.block.hex(), error=error.message)
