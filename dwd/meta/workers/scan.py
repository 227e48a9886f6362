"""Reads every row of every replica here, a few at a time, and compares with what was written: rot is found while the
other copies are still good.

Source: raft.md section 3; Bairavasundaram et al. 2008, "An analysis of data corruption in the storage stack": much of
it is found only when somebody looks.
"""

from __future__ import annotations

from collections import deque

from dwd.base.errors import Corrupt, NotFound, Unavailable
from dwd.base.ids import GroupId
from dwd.meta.audit import Audit
from dwd.observability.metrics import counter
from dwd.raft.host import Host
from dwd.raft.ports import Scan, StateMachine
from dwd.runtime.worker import Progress

ROWS_A_STEP = 128
"""A millisecond or so of the group's lane, which applies nothing meanwhile."""
REST_SECONDS = 6 * 3600.0
"""Between rounds over all replicas; the round itself takes what the pace says, so a day is enough for both."""
SCAN_PACE = 8.0
"""A ninth of the time: some 10,000 rows a second, of 864 million a day."""

SCANNED = counter("dwd.meta.rows_scanned", "Rows read to find rot", "{row}")


class ScanWorker:
    """Each call after a rest begins a round: an operator who pauses and resumes it has everything read now."""

    name = "meta.scan"
    idle_seconds = REST_SECONDS

    def __init__(self, *, host: Host, audit: Audit) -> None:
        self._host = host
        self._audit = audit
        self._left: deque[GroupId] = deque()

    async def work(self) -> Progress:
        if not self._left:
            self._left.extend(self._host.groups())
        while self._left:
            group = self._left[0]
            step = await self._step(group)
            if step is not None and not step.finished:
                SCANNED.add(step.rows)
                return Progress.BUSY
            self._left.popleft()
            if step is not None:
                self._audit.scanned(group, step.found)
                return Progress.BUSY if self._left else Progress.IDLE
        return Progress.IDLE

    async def _step(self, group: GroupId) -> Scan | None:
        """None: there is nothing here to be scanned."""
        try:
            status = self._host.status(group)
            if status.failed is not None or status.quarantined is not None:
                return None
            return await self._host.examine(group, _step)
        except (NotFound, Unavailable, Corrupt):
            return None  # gone, or broken: then its replica is replaced


def _step(machine: StateMachine) -> Scan:
    return machine.scan(ROWS_A_STEP)
