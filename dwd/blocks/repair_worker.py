"""Heals what the walk found, most urgent first, over all shards led here; and makes durable what reads found wrong.

What fails parks with a reason and is tried again later; it never stops the rest. Every attempt is in the ledger.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, DwError, NotFound
from dwd.base.ids import GroupId
from dwd.blocks.core.needs import Urgency
from dwd.blocks.heal_queue import HealQueue, Item
from dwd.blocks.ledger import Entry, Ledger, RepairState
from dwd.blocks.ports import Owner
from dwd.blocks.repair import Account, Outcome, Repairer
from dwd.blocks.reports import Reports
from dwd.blocks.walker import Walker
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.observability import metrics
from dwd.runtime.worker import Progress

CALL_SECONDS = 10.0
BLOCK_SECONDS = 60.0
TURN_SECONDS = 2.0
"""How long one piece of work goes on taking blocks."""
RATE_SECONDS = 10.0
"""What a rate is told over."""
RECENT_MAX = 4_096
AWAY = "devices are away"

_REPAIRS = metrics.counter("dwd.blocks.repairs", "Blocks healed, by cause and outcome", "{block}")
_READ = metrics.counter("dwd.blocks.repair.read", "Bytes read by repair", "By")
_WRITTEN = metrics.counter("dwd.blocks.repair.written", "Bytes of fragments written by repair", "By")
_SECONDS = metrics.histogram("dwd.blocks.repair.duration", "Time to heal a block", "s")
_log = structlog.get_logger("dwd.blocks")


@dataclass(slots=True, kw_only=True)
class Healed:
    """Of this node since it started."""

    blocks: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    failures: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT_MAX))
    """When (monotonic seconds) the last ones were healed, and the bytes written for each."""

    def rate(self, now: float) -> tuple[float, float]:
        """Bytes and blocks a second, of late."""
        seen = [(at, size) for at, size in self.recent if now - at <= RATE_SECONDS]
        if not seen:
            return 0.0, 0.0
        span = RATE_SECONDS if len(self.recent) < RECENT_MAX else max(1.0, now - seen[0][0])
        return sum(size for _, size in seen) / span, len(seen) / span


class RepairWorker:
    """Worker "blocks.repair". `at_once`: blocks healed side by side."""

    name = "blocks.repair"
    idle_seconds = 5.0

    def __init__(
        self,
        *,
        repairer: Repairer,
        catalogue: BlockCatalogue,
        queue: HealQueue,
        walker: Walker,
        ledger: Ledger,
        clock: Clock,
        at_once: int = 4,
    ) -> None:
        self._repairer, self._catalogue, self._queue = repairer, catalogue, queue
        self._walker, self._ledger, self._clock = walker, ledger, clock
        self._at_once = at_once
        self.healed = Healed()

    async def work(self) -> Progress:
        """Side by side, until the queue is empty or this turn is over."""
        until = self._clock.monotonic() + TURN_SECONDS
        done = 0

        async def one_after_another() -> None:
            nonlocal done
            while self._clock.monotonic() < until:
                item = self._queue.take()
                if item is None:
                    return
                try:
                    await self._heal(item)
                finally:
                    self._queue.done(item)
                done += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._at_once):
                _ = tasks.create_task(one_after_another())
        return Progress.BUSY if len(self._queue) else Progress.IDLE

    async def _heal(self, item: Item) -> None:
        if item.group not in self._catalogue.groups():
            return
        began = self._clock.monotonic()
        account = Account()
        try:
            owned = await self._row(item)
            if owned is None:
                return
            account = await self._repairer.repair(
                item.group, owned, deadline=began + BLOCK_SECONDS, urgent=item.urgency is Urgency.EXPOSED
            )
        except DwError as error:
            parked = self._queue.park(item, error.code, error.message)
            self.healed.failures += 1
            _REPAIRS.add(1, cause=item.cause.value, outcome="failed")
            _log.warning("block could not be healed", block=item.block.hex(), cause=item.cause.value, error=str(error))
            self._note(item, account, began, RepairState.FAILED, f"{error.code}: {error.message}", parked.tries + 1)
            return
        self._account(item, owned, account, began)

    async def _row(self, item: Item) -> OwnedBlock | None:
        """As it is now: the one in the queue may be old."""
        deadline = self._clock.monotonic() + CALL_SECONDS
        found = await self._catalogue.find(item.group, (item.block,), deadline=deadline)
        return found.blocks[0] if found.blocks else None

    def _account(self, item: Item, owned: OwnedBlock, account: Account, began: float) -> None:
        _REPAIRS.add(1, cause=item.cause.value, outcome=account.outcome.value)
        _READ.add(account.read_bytes)
        _WRITTEN.add(account.written_bytes)
        _SECONDS.record(self._clock.monotonic() - began)
        self.healed.read_bytes += account.read_bytes
        self.healed.written_bytes += account.written_bytes
        if account.outcome in {Outcome.WAITING, Outcome.BETTER}:
            parked = self._queue.park(item, "blocks.waiting", AWAY)
            if account.outcome is Outcome.WAITING:
                self._note(item, account, began, RepairState.PARKED, AWAY, parked.tries + 1)
                return
        else:
            _ = self._queue.parked.pop(item.block, None)
        if account.written or account.decoded:  # else somebody had healed it already
            self.healed.recent.append((self._clock.monotonic(), account.written_bytes))
            self.healed.blocks += account.outcome is Outcome.WHOLE
            self._note(item, account, began, RepairState.DONE, account.outcome.value, 0)
        if account.outcome is Outcome.WHOLE:
            self._walker.healed(item.group, owned.stored)

    def _note(self, item: Item, account: Account, began: float, state: RepairState, reason: str, tries: int) -> None:
        now = self._clock.unix_ms()
        self._ledger.note(
            Entry(
                at_ms=now,
                block=item.block,
                group=item.group,
                bucket=item.owned.bucket,
                key=item.owned.key,
                state=state,
                cause=item.cause.value,
                margin=item.margin,
                reason=reason,
                decoded=account.decoded,
                read=tuple(sorted(account.read)),
                written=tuple(sorted(account.written)),
                read_bytes=account.read_bytes,
                written_bytes=account.written_bytes,
                waited_ms=max(0, now - item.since_ms),
                took_ms=int((self._clock.monotonic() - began) * 1000),
                tries=tries,
            )
        )


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
