"""Putting a snapshot in the place of a replica's state: one the core asked for, or one that ends a quarantine.

While one of the first kind is installed, what the core wants persisted and applied waits, for it stands behind the
snapshot in the order of writes (`Effects`, duty 2). One of the second kind touches no log: it only moves the state
machine forward, inside what the log holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dwd.base.errors import InvariantViolation, NoSpace
from dwd.raft.core.effects import Effects
from dwd.raft.core.messages import SnapshotOffer
from dwd.raft.core.types import EMPTY_SNAPSHOT, NO_REPLICA, SnapshotMeta
from dwd.raft.surroundings import Surroundings

if TYPE_CHECKING:
    from dwd.raft.replica import Replica

_log = structlog.get_logger("dwd.raft")

INSTALL_RETRY_SECONDS = 1.0
"""After a snapshot found no space."""


class Installs:
    """Of one replica; at most one at a time."""

    def __init__(self, replica: Replica, around: Surroundings) -> None:
        self._replica = replica
        self._around = around
        self._held: deque[Effects] | None = None
        """Effects whose persisting and applying wait for a snapshot that is being installed."""
        self._fetched: tuple[SnapshotMeta, Path] | None = None
        self._replacing = False

    @property
    def under_way(self) -> bool:
        return self._held is not None or self._replacing

    def takes(self, effects: Effects) -> bool:
        """Whether `effects` are kept here until an install, theirs or an earlier one, is done."""
        if self._held is not None:
            self._held.append(effects)
            return True
        if effects.snapshot is None:
            return False
        self._held = deque()
        self._around.spawn(self._replica.group, self._install(effects, effects.snapshot), name="install")
        return True

    def ask_for_state(self) -> None:
        """Have the leader's state fetched, as if it had been offered. Asked again and again: it changes nothing while
        a transfer from the same leader is under way.
        """
        replica = self._replica
        leader = replica.soft.leader
        if leader in (NO_REPLICA, replica.id) or self._held is not None or self._replacing:
            return
        wanted = replace(EMPTY_SNAPSHOT, index=replica.applier.applied)
        offer = SnapshotOffer(source=leader, target=replica.id, term=replica.soft.term, snapshot=wanted)
        self._around.fetch_snapshot(replica.group, offer)

    def fetched(self, meta: SnapshotMeta, path: Path) -> None:
        """The file is here. It is consumed, or deleted if it is no longer wanted."""
        replica = self._replica
        if self._held is not None or self._replacing:
            path.unlink(missing_ok=True)
            replica.snapshot_abandoned()
            return
        if replica.quarantined is not None and replica.core.machine_replaces(meta):
            self._replacing = True
            self._around.spawn(replica.group, self._replace_state(meta, path), name="reseed")
            return
        self._fetched = (meta, path)
        replica.core.snapshot_fetched(meta)
        replica.pump()
        if self._held is None:
            self._fetched = None
            path.unlink(missing_ok=True)

    async def _install(self, effects: Effects, meta: SnapshotMeta) -> None:
        """Duty 2 of effects with a snapshot; what came meanwhile follows."""
        replica = self._replica
        fetched, self._fetched = self._fetched, None
        if replica.witness:
            fetched = (meta, Path())
        if fetched is None or fetched[0] != meta:
            raise InvariantViolation("the core installs a snapshot that was not fetched", group=replica.group)
        await self._install_file(meta, fetched[1])
        if replica.closed:
            return
        replica.end_quarantine()
        replica.configurations[:] = [(meta.index, meta.configuration)]
        held, self._held = self._held or deque(), None
        replica.refresh_routes()
        replica.persist(effects)
        for later in held:
            replica.persist(later)
        replica.reads.applied(replica.applier.applied)
        _log.info("snapshot installed", **replica.names(), index=meta.index)
        self._around.stir(replica.group)

    async def _replace_state(self, meta: SnapshotMeta, path: Path) -> None:
        """Put the leader's state in the place of a quarantined one; log and vote stay as they are."""
        replica = self._replica
        try:
            await self._install_file(meta, path)
        finally:
            self._replacing = False
        if replica.closed:
            return
        replica.configurations += replica.core.machine_replaced(meta)
        replica.end_quarantine()
        replica.reads.applied(replica.applier.applied)
        self._around.stir(replica.group)

    async def _install_file(self, meta: SnapshotMeta, path: Path) -> None:
        while True:
            try:
                await self._replica.applier.install(path, meta)
            except NoSpace as error:
                _log.error("no space to install a snapshot", **self._replica.names(), error=error.message)
                await asyncio.sleep(INSTALL_RETRY_SECONDS)
            else:
                return
