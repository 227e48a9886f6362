"""One group's state machine and the only lane on which it is touched.

Entries are applied in batches: what is committed while a batch runs joins the next. Longer work on the machine
(checkpoint, copy, install) takes its turn on the same lane, so the machine never sees two calls at once.
Where nobody waits for the results - on followers, unless a read does - a batch begins at most every GATHER_SECONDS: one
transaction for several commits, and none that competes with the log for the processor while a leader waits for that.
Invariant: entries are applied in order, each once; results are reported in that order on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import InvariantViolation, NoSpace
from dwd.base.ids import GroupId, LogIndex
from dwd.raft.core.types import Entry, SnapshotMeta
from dwd.raft.open_machines import OpenMachines
from dwd.raft.ports import StateMachine
from dwd.raft.telemetry import APPLY_BATCH, APPLY_SECONDS, COMMITS
from dwd.runtime.serial import Lane

SPACE_RETRY_SECONDS = 0.5
GATHER_SECONDS = 0.02
GATHER_ENTRIES = 128
"""So many are worth a batch of their own."""

T = TypeVar("T")
_log = structlog.get_logger("dwd.raft")


class Applier:
    """`on_applied(entries, results)` and `on_failed(error)` run on the event loop. A batch that finds the disk full is
    tried again; until it succeeds `refusal` says so.
    """

    def __init__(
        self,
        group: GroupId,
        machine: StateMachine,
        lane: Lane,
        *,
        open_machines: OpenMachines,
        applied: LogIndex,
        entries_max: int,
        bytes_max: int,
        clock: Clock,
        on_applied: Callable[[Sequence[Entry], Sequence[object]], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self.machine = machine
        self.applied = applied
        self.refusal: NoSpace | None = None
        self._halted = machine.quarantined() is not None
        """Nothing is applied to a state that is not to be trusted; what waits for a snapshot that replaces it."""
        self._group = group
        self._lane = lane
        self._open_machines = open_machines
        open_machines.used(self)
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._clock = clock
        self._on_applied = on_applied
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Entry] = deque()
        self._running = False
        self._installing = False
        self._pausing = False
        self._closed = False
        self._soon = False
        self._batch_began = float("-inf")
        self._gathering: asyncio.TimerHandle | None = None

    def add(self, entries: Sequence[Entry], *, soon: bool = True) -> None:
        """Apply `entries` after all added before. `soon`: somebody waits for it."""
        self._queue.extend(entries)
        self._soon = self._soon or soon
        self._consider()

    def hurry(self) -> None:
        """Somebody waits for what was added."""
        self._soon = True
        self._consider()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` on the machine's lane, after the batch that is being applied."""
        self._open_machines.used(self)
        return await self._lane.submit(work)

    async def install(self, source: Path, meta: SnapshotMeta) -> None:
        """Replace the machine's state by a snapshot; what waits to be applied and lies in it is skipped."""
        self._installing = True
        try:
            await self.run(partial(self.machine.install_snapshot, source, meta))
        finally:
            self._installing = False
        while self._queue and self._queue[0].index <= meta.index:
            self._queue.popleft()
        self.applied = max(self.applied, meta.index)
        self.go_on()

    def halt(self) -> None:
        """Apply nothing more after the batch under way until `go_on` or an install."""
        self._halted = True

    def go_on(self) -> None:
        self._halted = False
        self._launch()

    def rest(self) -> None:
        """Close the machine's files after what is under way; whatever comes opens them again. Does not wait."""
        if not self._closed:
            self._open_machines.closed(self)
            self._lane.submit(self.machine.rest).add_done_callback(self._rested)

    def close(self) -> None:
        """Apply nothing more and close the machine once its lane is free; does not wait."""
        self._closed = True
        self._open_machines.closed(self)
        self._queue.clear()
        if self._gathering is not None:
            self._gathering.cancel()
        self._lane.close(self.machine.close)

    async def closed(self) -> None:
        """After `close`: once the machine is closed."""
        await self._lane.closed()

    def _consider(self) -> None:
        """Begin a batch now, or when enough has gathered."""
        if self._soon or len(self._queue) >= GATHER_ENTRIES:
            self._launch()
        elif self._queue and self._gathering is None:
            wait = self._batch_began + GATHER_SECONDS - self._clock.monotonic()
            if wait <= 0:
                self._launch()
            else:
                self._gathering = self._loop.call_later(wait, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._launch()

    def _launch(self) -> None:
        if self._halted or self._running or self._installing or self._closed or self._pausing or not self._queue:
            return
        batch = self._take()
        self._open_machines.used(self)
        self._running = True
        self._soon = self._soon and bool(self._queue)
        self._batch_began = self._clock.monotonic()
        future = self._lane.submit(partial(self._apply, batch))
        future.add_done_callback(partial(self._ended, batch))

    def _take(self) -> list[Entry]:
        queue, batch, size = self._queue, list[Entry](), 0
        while queue and len(batch) < self._entries_max and size < self._bytes_max:
            entry = queue.popleft()
            size += len(entry.payload)
            batch.append(entry)
        return batch

    def _apply(self, batch: list[Entry]) -> Sequence[object]:
        began = self._clock.monotonic()
        results = self.machine.apply(batch)
        APPLY_SECONDS.record(self._clock.monotonic() - began, group=self._group)
        if len(results) != len(batch):
            raise InvariantViolation("the machine owes one result an entry", group=self._group)
        return results

    def _ended(self, batch: list[Entry], done: asyncio.Future[Sequence[object]]) -> None:
        self._running = False
        error = done.exception()
        if self._closed:
            return
        if isinstance(error, NoSpace):
            self._pause(batch, error)
            return
        if error is not None:
            self._on_failed(error)
            return
        self.refusal = None
        APPLY_BATCH.record(len(batch), group=self._group)
        COMMITS.add(len(batch), group=self._group)
        self.applied = max(self.applied, batch[-1].index)
        self._on_applied(batch, done.result())
        self._consider()

    def _rested(self, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if error is not None and not self._closed:
            self._on_failed(error)

    def _pause(self, batch: list[Entry], error: NoSpace) -> None:
        """Nothing of the batch took effect: it is tried again a little later."""
        if self.refusal is None:
            _log.error("the state machine's disk is full", group=self._group, error=error.message)
        self.refusal = error
        self._queue.extendleft(reversed(batch))
        self._pausing = True
        _ = self._loop.call_later(SPACE_RETRY_SECONDS, self._resume)

    def _resume(self) -> None:
        self._pausing = False
        self._launch()
