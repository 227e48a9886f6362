"""Messages that were refused: each counted, and of each kind a line in the log at most once a minute.

Whoever sends nonsense, or speaks for others, may do so often; neither the log nor the disk below it is to pay for that.
"""

from __future__ import annotations

import structlog

from dwd.base.clock import Clock
from dwd.base.ids import GroupId, NodeId, ReplicaId, hex_id
from dwd.raft.telemetry import REFUSED

_log = structlog.get_logger("dwd.raft")

LOG_SECONDS = 60.0
WRONG_NODE = "wrong_node"
NO_REPLICA_HERE = "no_replica_here"


class Complaints:
    """One a host. Reasons are few and named in the code, so nothing here grows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, reason: str, *, group: GroupId, source: ReplicaId, node: NodeId, count: int = 1) -> None:
        REFUSED.add(count, reason=reason)
        unsaid = self._unsaid[reason] = self._unsaid.get(reason, 0) + count
        now = self._clock.monotonic()
        if now < self._next.get(reason, now):
            return
        self._next[reason] = now + LOG_SECONDS
        self._unsaid[reason] = 0
        _log.warning(
            "messages were refused", reason=reason, count=unsaid, group=group, source=source, from_node=hex_id(node)
        )
