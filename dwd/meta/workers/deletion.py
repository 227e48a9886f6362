"""Completes, or undoes, deletions of buckets whose caller or node went away half-way."""

from __future__ import annotations

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, NotFound
from dwd.base.ids import CONTROL_GROUP
from dwd.meta.client import MetaClient
from dwd.runtime.worker import Progress

DELETE_SECONDS = 30.0


class DeletionWorker:
    """Acts on a bucket it has seen DELETING under one epoch in two passes: its caller had `idle_seconds` to finish."""

    name = "meta.deletion"
    idle_seconds = 30.0

    def __init__(self, *, client: MetaClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._seen: set[tuple[str, int]] = set()

    async def work(self) -> Progress:
        if not self._client.leads(CONTROL_GROUP):
            self._seen.clear()
            return Progress.IDLE
        deleting = {(b.name, b.epoch) for b in self._client.view.deleting_buckets()}
        for name, epoch in sorted(deleting & self._seen):
            deadline = self._clock.monotonic() + DELETE_SECONDS
            try:
                await self._client.delete_bucket(name, deadline=deadline, begun_under=epoch)
            except (Conflict, NotFound):
                continue  # undone, since it is not empty; or somebody was faster
        self._seen = deleting
        return Progress.IDLE
