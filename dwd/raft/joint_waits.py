"""Waiting for a joint configuration to be left: only then is a change of several voters complete.

The leader leaves it by itself (thesis 4.3), whoever leads by then; every replica sees it when it applies the entry.
"""

from __future__ import annotations

import asyncio

from dwd.base.errors import OutcomeUnknown
from dwd.raft.core.types import Configuration


class JointWaits:
    """Of one replica."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, asyncio.Future[Configuration]]] = []

    def add(self, deadline: float, future: asyncio.Future[Configuration]) -> None:
        self._waiting.append((deadline, future))

    def applied(self, configuration: Configuration) -> None:
        if configuration.is_joint or not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_result(configuration)

    def overdue(self, now: float) -> None:
        for deadline, future in self._waiting:
            if deadline <= now and not future.done():
                future.set_exception(
                    OutcomeUnknown(
                        "raft.outcome_unknown",
                        "the group is on its way to the new configuration and will get there by itself",
                        hint="look at its status",
                    )
                )
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]

    def close(self) -> None:
        """The replica stops here; the group goes on."""
        self.overdue(float("inf"))
