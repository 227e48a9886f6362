"""A node that is about to stop hands the groups it leads to others first, so that nobody waits for an election.

Bounded: what has not moved in time is left to the election that follows when the streams break. Meanwhile the node
says in its answers to heartbeats that it does not want to lead, so two nodes that stop together hand nothing to each
other, and nobody of higher priority gets back what it gave away.

Source: raft.md section 5; the mechanism is Ongaro's thesis 3.10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.base.ids import GroupId, NodeId
from dwd.raft.core.types import Role
from dwd.raft.engine import Engine
from dwd.raft.telemetry import HANDED_OVER

_log = structlog.get_logger("dwd.raft")

Transfer = Callable[[GroupId, float], Awaitable[NodeId]]
"""Hand a group led here to whoever is fit, until a deadline."""


async def hand_over_all(engine: Engine, transfer: Transfer, clock: Clock, *, seconds: float) -> None:
    """Returns once every group led here is led elsewhere, or cannot be, or `seconds` are over."""
    led = [
        group
        for group, replica in engine.replicas.items()
        if replica.soft.role is Role.LEADER and len(replica.configurations[-1][1].voters()) > 1
    ]
    if not led:
        return
    began = clock.monotonic()
    deadline = began + seconds

    async def one(group: GroupId) -> bool:
        try:
            await transfer(group, deadline)
        except (DwError, TimeoutError) as error:
            _log.info("leadership not handed over", group=group, error=str(error))
            return False
        return True

    moved = sum(await asyncio.gather(*(one(group) for group in led)))
    HANDED_OVER.add(moved, reason="stop")
    _log.info("leaderships handed over", groups=moved, of=len(led), seconds=round(clock.monotonic() - began, 3))
