"""When and how far a group's log is cut: never above what the machine's database holds durably.

Source: raft.md section 3 - checkpoint first, cut only if it moved everything, leave a tail for followers that lag.
What follows a copy that is being sent stays too: else a follower whose transfer takes longer than the log needs to grow
by its tail would need another copy, for ever. Only the log's byte budget overrides that.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from dwd.base.errors import Busy, NoSpace, NotFound
from dwd.base.ids import LogIndex, NodeId
from dwd.raft.core.status import ProgressState
from dwd.raft.options import HostOptions
from dwd.raft.ports import LogStore
from dwd.raft.recovery import position_at
from dwd.raft.replica import Replica
from dwd.raft.snapshots.copies import Copies
from dwd.raft.status import CompactionReport

_log = structlog.get_logger("dwd.raft")

RETRY_SECONDS = 5.0
"""After a checkpoint that a long reader or a full disk kept from finishing."""


class Compaction:
    """All groups of one host; at most one cut a group at a time. `copies` are those that are being sent,
    `last_contact` says how many seconds ago a node was heard of.
    """

    def __init__(
        self,
        log: LogStore,
        options: HostOptions,
        *,
        copies: Copies,
        last_contact: Callable[[NodeId], float],
    ) -> None:
        self._log = log
        self._options = options
        self._copies = copies
        self._silence = last_contact
        self._running: set[int] = set()
        self._not_before: dict[int, float] = {}

    def due(self, replica: Replica, now: float, *, pinned: bool) -> bool:
        """Whether to run `compact` now. `pinned`: the group keeps old segments alive while the log is over budget."""
        group = replica.group
        if replica.quarantined is not None or group in self._running or now < self._not_before.get(group, now):
            return False
        applied = replica.applier.applied
        first = replica.configurations_from()
        if pinned:
            return applied > first
        return (
            applied - first >= self._options.compaction_entries
            or self._log.bytes_held(group) >= self._options.compaction_bytes
        ) and self._target(replica, applied, pinned=False) > first

    async def compact(self, replica: Replica, now: float, *, pinned: bool) -> None:
        group = replica.group
        self._running.add(group)
        try:
            try:
                durable = await replica.applier.run(replica.applier.machine.checkpoint)
            except NoSpace as error:
                self._not_before[group] = now + RETRY_SECONDS
                _log.warning("no space for a checkpoint", **replica.names(), error=error.message)
                return
            if durable is None:
                self._not_before[group] = now + RETRY_SECONDS
                _log.warning("checkpoint is held up by a long reader", **replica.names())
                return
            await self._cut(replica, self._target(replica, _free(replica, durable), pinned=pinned))
        finally:
            self._running.discard(group)

    async def on_demand(self, replica: Replica) -> CompactionReport:
        """Cut as far as the state is durable, leaving what followers that answer have not read and what follows a copy
        that is being sent; a follower's log knows of no others. Raises Busy, NoSpace.
        """
        group = replica.group
        if group in self._running:
            raise Busy("raft.compaction_running", "the log is being compacted already", group=group)
        self._running.add(group)
        try:
            durable = await replica.applier.run(replica.applier.machine.checkpoint)
            if durable is None:
                raise Busy("raft.checkpoint_held_up", "a long reader keeps the checkpoint from finishing", group=group)
            first, held = replica.configurations_from(), self._log.bytes_held(group)
            await self._cut(replica, self._wanted_by_followers(replica, _free(replica, durable)))
        finally:
            self._running.discard(group)
        now = replica.configurations_from()
        return CompactionReport(
            group=group,
            first=LogIndex(now + 1),
            applied=replica.applier.applied,
            entries_removed=now - first,
            bytes_removed=max(0, held - self._log.bytes_held(group)),
        )

    async def _cut(self, replica: Replica, index: LogIndex) -> None:
        if index <= replica.configurations_from():
            return
        try:
            (entry, *_) = await self._log.read(replica.group, index, index, 1)
        except NotFound:
            return
        if replica.closed or index <= replica.configurations_from():
            return
        position = position_at(replica.configurations, entry)
        replica.compacted(position)
        await self._log.compact(replica.group, position)
        _log.info("log compacted", **replica.names(), index=index)

    def _wanted_by_followers(self, replica: Replica, durable: LogIndex) -> LogIndex:
        peers = replica.core.status().peers
        patience = 2 * self._options.election_ticks * self._options.tick_ms / 1000
        needed = [
            peer.match
            for peer in peers
            if peer.state is not ProgressState.SNAPSHOT and self._silence(replica.node_of(peer.replica)) < patience
        ]
        copied = self._copies.oldest(replica.group, sending=True)
        return min([durable, *needed] if copied is None else [durable, copied, *needed])

    def _target(self, replica: Replica, durable: LogIndex, *, pinned: bool) -> LogIndex:
        """`durable` minus the tail that is left for followers, in entries and (by their mean size) in bytes."""
        if pinned:
            return durable
        first = replica.configurations_from()
        held = max(1, replica.core.status().last - first)
        mean_bytes = max(1, self._log.bytes_held(replica.group) // held)
        trailing = min(self._options.trailing_entries, self._options.trailing_bytes // mean_bytes)
        copied = self._copies.oldest(replica.group)
        wanted = durable - trailing if copied is None else min(durable - trailing, copied)
        return LogIndex(max(first, wanted))


def _free(replica: Replica, durable: LogIndex) -> LogIndex:
    """A witness keeps what too few data voters have (`dwd.raft.core.witness`), whatever its log weighs."""
    return LogIndex(min(durable, replica.core.status().held)) if replica.witness else durable
