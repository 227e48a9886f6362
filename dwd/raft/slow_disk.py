"""A node whose log disk is slow gives away what it leads, and is the last to take leadership, until it is fast again.

Nodes tell each other once a second what their writes take (`Pace`). A commit waits for the leader's disk or for two
others, so a slow follower costs nothing and a slow leader everything.

Source: raft.md section 5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.base.ids import GroupId, NodeId
from dwd.raft.core.types import Role
from dwd.raft.disk_pace import DiskPace
from dwd.raft.engine import Engine
from dwd.raft.telemetry import DISK_SLOW, HANDED_OVER, SYNC_P99_SECONDS
from dwd.raft.transport import NODES, Pace, Transport

TRANSFER_SECONDS = 2.0
AGAIN_SECONDS = 10.0
"""Before a group that could not be handed over is tried again."""

_log = structlog.get_logger("dwd.raft")


class SlowDisk:
    """`look` is called about once a second. `transfer(group, deadline)` has another voter lead."""

    def __init__(
        self,
        *,
        node: NodeId,
        pace: DiskPace,
        clock: Clock,
        engine: Engine,
        transport: Transport,
        transfer: Callable[[GroupId, float], Awaitable[object]],
    ) -> None:
        self._node = node
        self._pace = pace
        self._clock = clock
        self._engine = engine
        self._transport = transport
        self._transfer = transfer
        self._gauges = (
            DISK_SLOW.watch(lambda: float(pace.slow)),
            SYNC_P99_SECONDS.watch(lambda: pace.sync_seconds(clock.monotonic()) or 0.0),
        )
        self._not_before: dict[GroupId, float] = {}

    def look(self, now: float) -> None:
        seconds = self._pace.sync_seconds(now)
        if seconds is not None:
            for node in self._peers():
                self._transport.send(node, NODES, [Pace(sync_us=int(seconds * 1_000_000))])
        if self._pace.judge(now):
            say = _log.warning if self._pace.slow else _log.info
            told = None if seconds is None else round(seconds, 3)
            say("log disk is slow" if self._pace.slow else "log disk is fast again", sync_p99_seconds=told)
            self._not_before.clear()
        if self._pace.slow:
            self._give_away(now)

    def close(self) -> None:
        for unwatch in self._gauges:
            unwatch()

    def _peers(self) -> set[NodeId]:
        found: set[NodeId] = set()
        for replica in self._engine.replicas.values():
            if not replica.dormant:
                found.update(member.node for member in replica.configurations[-1][1].voters())
        return found - {self._node}

    def _give_away(self, now: float) -> None:
        """Groups that rest write nothing: they are given away once they do."""
        for group, replica in self._engine.replicas.items():
            if replica.dormant or replica.soft.role is not Role.LEADER or self._not_before.get(group, now) > now:
                continue
            if len(replica.configurations[-1][1].voters()) > 1:
                self._not_before[group] = now + AGAIN_SECONDS
                self._engine.spawn(group, self._hand_over(group), name="slow-disk")

    async def _hand_over(self, group: GroupId) -> None:
        try:
            await self._transfer(group, self._clock.monotonic() + TRANSFER_SECONDS)
        except DwError as error:
            _log.info("leadership was not handed over for a slow disk", group=group, error=error.message)
        else:
            HANDED_OVER.add(1, reason="slow disk")
            _log.warning("leadership handed over: this node's log disk is slow", group=group)
