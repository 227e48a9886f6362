"""Asks the other voters of this node's groups what time it is, about once a second, has the guard judge, and hands the
groups over that are led here when the own clock turns out to be wrong.

Cheap: one small call to each of at most PEERS_MAX nodes; of more voters those with the lowest ids are asked, the same
on every node. Asked at once, and more often, while no quorum of clocks is known: a node that just started must learn
that its clock is wrong before it can win an election.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.base.ids import GroupId, NodeId
from dwd.raft.clock_guard import HANDOVER_SECONDS, ClockGuard
from dwd.raft.core.types import Role
from dwd.raft.engine import Engine

_log = structlog.get_logger("dwd.raft")

PEERS_MAX = 32
PROBE_SECONDS = 1.0
HASTE_SECONDS = 0.25
"""Between questions while a quorum's clocks are not known."""
ANSWER_SECONDS = 0.5
"""A slower answer would tell too little."""


class PeerClocks(Protocol):
    """The way to other nodes' clocks."""

    async def unix_ms(self, node: NodeId, *, seconds: float) -> int:
        """What the node's clock says. Raises DwError."""
        ...


class ClockProbe:
    """`hand_over(group, deadline)` has another voter lead. Raises DwError."""

    def __init__(
        self,
        *,
        node: NodeId,
        clock: Clock,
        peers: PeerClocks,
        engine: Engine,
        guard: ClockGuard,
        hand_over: Callable[[GroupId, float], Awaitable[object]],
    ) -> None:
        self._node = node
        self._clock = clock
        self._peers = peers
        self._engine = engine
        self._guard = guard
        self._hand_over = hand_over
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        self._guard.on_doubt(self._hurry.set)
        while True:
            self._hurry.clear()
            nodes = self._voters()
            self._judge(nodes)
            async with asyncio.TaskGroup() as asking:
                for node in nodes:
                    _ = asking.create_task(self._ask(node))
            self._judge(nodes)
            haste = bool(nodes) and self._guard.status().offset_seconds is None
            try:
                async with asyncio.timeout(HASTE_SECONDS if haste else PROBE_SECONDS):
                    _ = await self._hurry.wait()
            except TimeoutError:
                continue

    def _voters(self) -> list[NodeId]:
        """Of all groups of this node, but this node."""
        found: set[NodeId] = set()
        for replica in self._engine.replicas.values():
            _, configuration = replica.configurations[-1]
            found.update(member.node for member in configuration.voters())
        return sorted(found - {self._node})[:PEERS_MAX]

    async def _ask(self, node: NodeId) -> None:
        asked_at = self._clock.monotonic()
        try:
            unix_ms = await self._peers.unix_ms(node, seconds=ANSWER_SECONDS)
        except DwError:
            return  # it has no say for now
        self._guard.heard(node, unix_ms, asked_at=asked_at, answered_at=self._clock.monotonic())

    def _judge(self, nodes: list[NodeId]) -> None:
        was_off = self._guard.off
        self._guard.judge(nodes)
        if self._guard.off and not was_off:
            now = self._clock.monotonic()
            for group, replica in self._engine.replicas.items():
                replica.heed_clock(now)
                self._engine.stir(group)
                if replica.soft.role is Role.LEADER:
                    self._engine.spawn(group, self._give_away(group), name="clock")

    async def _give_away(self, group: GroupId) -> None:
        """Where nobody takes over the replica steps down at its next tick (`ClockGuard.bars`), for which it must be
        awake.
        """
        try:
            _ = await self._hand_over(group, self._clock.monotonic() + HANDOVER_SECONDS)
        except DwError as error:
            _log.info("leadership was not handed over for a wrong clock", group=group, error=error.message)
            replica = self._engine.replicas.get(group)
            if replica is not None:
                replica.heed_clock(self._clock.monotonic())
                self._engine.stir(group)
