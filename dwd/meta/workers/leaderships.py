"""Spreads leaderships over the nodes: who leads a group orders its writes and heals its blocks, so both spread with it.

On the leader of control, which asks every node what it leads and has a few groups at a time handed over
(`dwd.meta.core.leaderships` decides). A node that just came, and a group that was just moved, are left in peace for a
while: nodes that come and go do not pull leaderships to and fro.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, hex_id, stamp_ms
from dwd.meta.client import MetaClient
from dwd.meta.core.control.rows import Liveness, NodeStanding
from dwd.meta.core.leaderships import Leading, Move, plan_moves
from dwd.meta.leaderships import Leaderships
from dwd.observability import metrics
from dwd.runtime.worker import Progress

SETTLE_SECONDS = 10.0
"""A leader of control looks so long before it moves anything; a node is given nothing so long after it came."""
REST_SECONDS = 60.0
"""A group that was moved, or could not be, is left alone for so long."""
MOVES_AT_ONCE = 8
ASKED_AT_ONCE = 16
ASK_SECONDS = 2.0
HAND_OVER_SECONDS = 5.0
IDLE_SECONDS = 5.0
IDLE_SECONDS_PER_NODE = 0.05

_MOVED = metrics.counter("dwd.meta.leaderships_moved", "Leaderships handed over to spread them", "{group}")
_log = structlog.get_logger("dwd.meta")


class LeadershipWorker:
    """Worker "meta.leaderships"."""

    name = "meta.leaderships"

    def __init__(self, *, client: MetaClient, leaderships: Leaderships, clock: Clock) -> None:
        self._client, self._leaderships, self._clock = client, leaderships, clock
        self._leading_since: float | None = None
        self._resting: dict[GroupId, float] = {}
        """Until when; bounded by the groups there are."""

    @property
    def idle_seconds(self) -> float:
        topology = self._client.view.topology_or_none()
        return max(IDLE_SECONDS, IDLE_SECONDS_PER_NODE * (0 if topology is None else len(topology.nodes)))

    async def work(self) -> Progress:
        now = self._clock.monotonic()
        if not self._client.leads(CONTROL_GROUP):
            self._leading_since = None
            return Progress.IDLE
        if self._leading_since is None:
            self._leading_since = now
        if now - self._leading_since < SETTLE_SECONDS:
            return Progress.IDLE
        self._resting = {group: until for group, until in self._resting.items() if until > now}
        led = await self._ask()
        moves = plan_moves(led, takers=self._takers(), resting=self._resting, moves_max=MOVES_AT_ONCE)
        await asyncio.gather(*(self._move(move) for move in moves))
        return Progress.BUSY if moves else Progress.IDLE

    def _takers(self) -> frozenset[NodeId]:
        since = self._clock.unix_ms() - int(SETTLE_SECONDS * 1000)
        return frozenset(
            row.node
            for row in self._client.view.topology().nodes
            if row.standing is NodeStanding.ACTIVE
            and row.liveness is Liveness.UP
            and stamp_ms(row.liveness_since) <= since
        )

    async def _ask(self) -> Mapping[NodeId, Leading]:
        """Nodes that do not answer lead nothing as far as this goes, and are given nothing."""
        nodes = iter([row.node for row in self._client.view.topology().nodes if row.liveness is Liveness.UP])
        led: dict[NodeId, Leading] = {}

        async def ask() -> None:
            for node in nodes:
                try:
                    led[node] = await self._leaderships.tell(node, seconds=ASK_SECONDS)
                except DwError as error:
                    _log.debug("a node did not say what it leads", member_node=hex_id(node), error=str(error))

        await asyncio.gather(*(ask() for _ in range(ASKED_AT_ONCE)))
        return led

    async def _move(self, move: Move) -> None:
        self._resting[move.group] = self._clock.monotonic() + REST_SECONDS
        try:
            await self._leaderships.hand_over(move.source, move.group, move.target, seconds=HAND_OVER_SECONDS)
        except DwError as error:
            _log.info("leadership not handed over", group=move.group, to=hex_id(move.target), error=str(error))
            return
        _MOVED.add(1)
        _log.info(
            "leadership handed over: another node led fewer groups",
            group=move.group, source=hex_id(move.source), to=hex_id(move.target),
        )  # fmt: skip
