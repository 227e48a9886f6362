"""Replicas whose state is not to be trusted: kept from harm until the leader's state has taken its place.

A quarantined replica keeps its vote and its log, which are as good as ever, and counts towards quorums. It neither
leads nor serves reads nor copies, applies nothing, cuts nothing off its log; the machine remembers all this on disk.
On each tick it asks the leader it knows for its state, by the way of any snapshot. When that is here it takes the
machine's place: at a position inside the log the log just goes on behind it, past its end the install is an ordinary
one. Who decides that a state is wrong is not known here.

Source: raft.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog

from dwd.base.errors import Corrupt, NoSpace, SafetyRefused, StorageFailed
from dwd.raft.core.types import MemberRole
from dwd.raft.engine import Engine
from dwd.raft.ports import StateMachine
from dwd.raft.replica import Replica
from dwd.raft.telemetry import QUARANTINES

T = TypeVar("T")
_log = structlog.get_logger("dwd.raft")


class Quarantines:
    """One a host."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def begin(self, replica: Replica, reason: str) -> None:
        """Raises SafetyRefused, NoSpace, StorageFailed."""
        if replica.quarantined is not None:
            return
        voters = replica.core.status().configuration.voters()
        if not any(voter.role is MemberRole.VOTER for voter in voters if voter.replica != replica.id):
            raise SafetyRefused(
                "raft.quarantine_alone",
                f"the only voter with data of group {replica.group} has nobody to be re-seeded by",
                hint="restore the group from a backup, or add voters",
            )
        replica.applier.halt()
        try:
            await self.examine(replica, lambda machine: machine.quarantine(reason))
        except NoSpace:
            replica.applier.go_on()
            raise
        if replica.closed or replica.quarantined is not None:
            return
        QUARANTINES.add(1, group=replica.group)
        _log.error("replica is quarantined", **replica.names(), reason=reason)
        replica.begin_quarantine(reason)

    async def examine(self, replica: Replica, work: Callable[[StateMachine], T]) -> T:
        """Raises what `work` raises; what says that the machine or its disk failed stops the replica or the node."""
        try:
            return await replica.applier.run(partial(work, replica.applier.machine))
        except (Corrupt, StorageFailed) as error:
            if not replica.closed:
                self._engine.fail(replica.group, error)
            raise
