"""Housekeeping of the shards led here: abandoned uploads, deleted things too large for one command, old tombstones."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.clock import Clock
from dwd.base.ids import GroupId, stamp_of
from dwd.meta.client import MetaClient
from dwd.meta.core.shard.commands import Drain, ExpireAbandoned, TrimTombstones
from dwd.meta.core.shard.queries import GetCounts
from dwd.meta.settled import Settled
from dwd.runtime.worker import Progress

PROPOSE_SECONDS = 10.0
DRAIN_ROWS = 500
"""One command's worth: a few milliseconds of the group's thread."""
SWEEP_SECONDS = 30.0
QUIET_SWEEP_SECONDS = 3_600.0
"""Of a shard that has not changed since: what it holds may have grown old enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepOptions:
    list_hours: float = 6.0
    """A put under way that staged nothing for so long is abandoned."""
    upload_days: float = 7.0
    """A multipart upload nobody touched for so long is aborted."""
    tombstone_hours: float = 24.0
    """How far back followers of the change feed may lag."""


class UpkeepWorker:
    name = "meta.upkeep"
    idle_seconds = 2.0

    def __init__(self, *, client: MetaClient, clock: Clock, options: UpkeepOptions | None = None) -> None:
        self._client = client
        self._clock = clock
        self._options = options or UpkeepOptions()
        self._drained = Settled()
        self._swept = Settled()
        self._swept_at: dict[GroupId, float] = {}

    async def work(self) -> Progress:
        more = False
        led = [group for group in self._client.shards() if self._client.leads(group)]
        self._drained.keep(led)
        self._swept.keep(led)
        for group in led:
            more = await self._drain(group) or more
            more = await self._sweep(group) or more
        return Progress.BUSY if more else Progress.IDLE

    async def _drain(self, group: GroupId) -> bool:
        now, position = self._clock.monotonic(), self._client.position(group)
        if self._drained.holds(group, position, now):
            return False
        deadline = now + PROPOSE_SECONDS
        counts = await self._client.read_group(group, GetCounts(), deadline=deadline)
        if not counts.drains_waiting:
            self._drained.note(group, position)
            return False
        done = await self._client.shard(group, Drain(limit=DRAIN_ROWS), deadline=deadline)
        return done.more

    async def _sweep(self, group: GroupId) -> bool:
        now = self._clock.monotonic()
        if now < self._swept_at.get(group, 0.0) or self._swept.holds(group, self._client.position(group), now):
            return False
        options, unix_ms = self._options, self._clock.unix_ms()
        expire = ExpireAbandoned(
            lists_before=stamp_of(max(0, unix_ms - int(options.list_hours * 3_600_000))),
            uploads_before=stamp_of(max(0, unix_ms - int(options.upload_days * 86_400_000))),
            limit=DRAIN_ROWS,
        )
        trim = TrimTombstones(
            before=stamp_of(max(0, unix_ms - int(options.tombstone_hours * 3_600_000))), limit=DRAIN_ROWS
        )
        deadline = now + PROPOSE_SECONDS
        expired = await self._client.shard(group, expire, deadline=deadline)
        trimmed = await self._client.shard(group, trim, deadline=deadline)
        if expired.more or trimmed.more:
            return True
        self._swept_at[group] = now + SWEEP_SECONDS
        self._swept.note(group, trimmed.index, until=now + QUIET_SWEEP_SECONDS)
        return False
