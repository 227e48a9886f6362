"""Turns what the leader of control hears of other nodes into transitions that everyone sees."""

from __future__ import annotations

from dwd.base.clock import Clock
from dwd.base.ids import CONTROL_GROUP, NodeId
from dwd.meta.client import MetaClient
from dwd.meta.core.control.commands import SetNodeLiveness
from dwd.meta.core.control.rows import Liveness
from dwd.meta.local import Consensus
from dwd.runtime.worker import Progress

DOWN_SECONDS = 5.0
"""Silence after which a node is DOWN; a new leader waits so long before it judges anyone."""
UP_SECONDS = 2.0
PROPOSE_SECONDS = 5.0


class LivenessWorker:
    """Judges members of control only: a node that was just admitted has had no reason to speak yet."""

    name = "meta.liveness"
    idle_seconds = 0.5

    def __init__(self, *, node: NodeId, client: MetaClient, host: Consensus, clock: Clock) -> None:
        self._node = node
        self._client = client
        self._host = host
        self._clock = clock
        self._leading_since: float | None = None

    async def work(self) -> Progress:
        now = self._clock.monotonic()
        if not self._client.leads(CONTROL_GROUP):
            self._leading_since = None
            return Progress.IDLE
        if self._leading_since is None:
            self._leading_since = now
        for command in self._transitions(judging=now - self._leading_since >= DOWN_SECONDS):
            await self._client.control(command, deadline=now + PROPOSE_SECONDS)
        return Progress.IDLE

    def _transitions(self, *, judging: bool) -> list[SetNodeLiveness]:
        members = {m.node for m in self._host.status(CONTROL_GROUP).configuration.members}
        found: list[SetNodeLiveness] = []
        for row in self._client.view.topology().nodes:
            silence = 0.0 if row.node == self._node else self._host.last_contact(row.node)
            if row.liveness is Liveness.DOWN and silence <= UP_SECONDS:
                found.append(SetNodeLiveness(node=row.node, liveness=Liveness.UP))
            if row.liveness is Liveness.UP and judging and row.node in members and silence > DOWN_SECONDS:
                found.append(SetNodeLiveness(node=row.node, liveness=Liveness.DOWN))
        return found
