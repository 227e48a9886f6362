"""From many groups' effects to few writes of the node's log.

What is queued while `in_flight_max` writes are out joins the next one, so load makes writes larger, not more. A write
carries at most WRITE_BYTES_MAX (but one group's part is never split), and less than what the log's own queue takes is
out at a time: a log that is full would refuse, and a refused write could not be put back in order.
Invariant: `done` callbacks run in the order of queueing, each after everything queued before it is durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dwd.base.clock import Clock
from dwd.base.ids import GroupId
from dwd.base.units import MIB
from dwd.raft.ports import LogStore, LogWrite
from dwd.raft.telemetry import PERSIST_SECONDS
from dwd.runtime.tasks import Tasks

WRITE_BYTES_MAX = 8 * MIB
IN_FLIGHT_BYTES_MAX = 16 * MIB


class _Batch:
    __slots__ = ("bytes", "callbacks", "durable", "writes")

    def __init__(self) -> None:
        self.writes: list[LogWrite] = []
        self.callbacks: list[Callable[[], None]] = []
        self.bytes = 0
        self.durable = False


class Persister:
    """One a host. A failed write ends the task that made it: its owner learns of it through `tasks`. Groups that were
    told to wait by `admits` are stirred when there is room.
    """

    def __init__(
        self, log: LogStore, clock: Clock, tasks: Tasks, *, in_flight_max: int, stir: Callable[[GroupId], None]
    ) -> None:
        self._log = log
        self._clock = clock
        self._tasks = tasks
        self._in_flight_max = in_flight_max
        self._stir = stir
        self._starved: set[GroupId] = set()
        self._pending: deque[_Batch] = deque()
        self._in_flight: deque[_Batch] = deque()

    def queue(self, write: LogWrite | None, done: Callable[[], None]) -> None:
        """`done` is called once `write`, and all queued before, is durable; not at all if that fails."""
        if not self._pending or self._pending[-1].bytes >= WRITE_BYTES_MAX:
            self._pending.append(_Batch())
        batch = self._pending[-1]
        if write is not None:
            batch.writes.append(write)
            batch.bytes += sum(len(entry.payload) for entry in write.entries)
        batch.callbacks.append(done)

    def admits(self, group: GroupId) -> bool:
        """Whether new proposals should go into the log now; else `group` is stirred when they should."""
        if self._has_room():
            return True
        self._starved.add(group)
        return False

    def flush(self) -> None:
        """Hand what is pending to the store, as far as it may take more."""
        while self._pending and self._has_room():
            batch = self._pending.popleft()
            self._in_flight.append(batch)
            if batch.writes:
                _ = self._tasks.spawn(self._write(batch), name="persist")
            else:
                self._finish(batch)

    def _has_room(self) -> bool:
        if len(self._in_flight) >= self._in_flight_max:
            return False
        return sum(batch.bytes for batch in self._in_flight) < IN_FLIGHT_BYTES_MAX

    async def _write(self, batch: _Batch) -> None:
        began = self._clock.monotonic()
        await self._log.write(batch.writes)
        PERSIST_SECONDS.record(self._clock.monotonic() - began)
        self._finish(batch)

    def _finish(self, batch: _Batch) -> None:
        batch.durable = True
        while self._in_flight and self._in_flight[0].durable:
            for done in self._in_flight.popleft().callbacks:
                done()
        starved, self._starved = self._starved, set()
        for group in starved:
            self._stir(group)
        self.flush()
