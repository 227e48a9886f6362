"""What a host tells about its groups and about the node, all of it from memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dwd.base.clock import Clock
from dwd.base.ids import GroupId, LogIndex, NodeId
from dwd.raft.clock_guard import ClockGuard, ClockStatus
from dwd.raft.core.types import ZERO_INDEX, Role
from dwd.raft.disk_pace import DiskStatus
from dwd.raft.engine import Engine
from dwd.raft.leadership import Leadership, LeadershipCallback
from dwd.raft.ports import LogStore
from dwd.raft.report import describe
from dwd.raft.snapshots.copies import Copies
from dwd.raft.snapshots.transfers import Transfers
from dwd.raft.status import GroupStatus
from dwd.raft.transport import Absence


class HostView:
    """The part of `Host` that only looks. The fields are the host's."""

    _node: NodeId
    _clock: Clock
    _engine: Engine
    _guard: ClockGuard
    _log: LogStore
    _copies: Copies
    _transfers: Transfers
    _leaderships: dict[GroupId, Leadership]

    def missing(self, group: GroupId) -> Mapping[NodeId, Absence]:
        """On the leader: members whose node says it has no such replica, or a broken one: to be replaced."""
        replica = self._engine.replicas.get(group)
        if replica is None or replica.soft.role is not Role.LEADER:
            return {}
        members = replica.core.status().configuration.members
        return {m.node: replica.absent[m.replica] for m in members if m.replica in replica.absent}

    def groups(self) -> tuple[GroupId, ...]:
        return tuple(sorted({*self._engine.replicas, *self._engine.broken}))

    def status(self, group: GroupId) -> GroupStatus:
        """Raises NotFound."""
        return describe(
            self._engine,
            group,
            log=self._log,
            transfers=self._transfers,
            copies=self._copies,
            last_contact=self.last_contact,
        )

    def serves(self, group: GroupId) -> bool:
        """Whether a working replica with data is here. Cheap, unlike `status`: every request asks."""
        replica = self._engine.replicas.get(group)
        return replica is not None and replica.quarantined is None and not replica.witness

    def leads(self, group: GroupId) -> bool:
        """Whether the group's leader is here. As cheap as `serves`."""
        replica = self._engine.replicas.get(group)
        return replica is not None and replica.soft.role is Role.LEADER

    def applied(self, group: GroupId) -> LogIndex:
        """What the local machine has applied; 0 if there is none. As cheap as `serves`."""
        replica = self._engine.replicas.get(group)
        return ZERO_INDEX if replica is None else replica.applier.applied

    def hibernates(self, group: GroupId) -> bool:
        """Whether the group rests here: nobody uses it."""
        return self._engine.hibernation.rests(group)

    def leader_node(self, group: GroupId) -> NodeId:
        """Where the leader is as far as the local replica knows; 0 if it does not, or is not here."""
        replica = self._engine.replicas.get(group)
        return NodeId(0) if replica is None else replica.leadership.node

    def last_contact(self, node: NodeId) -> float:
        """Seconds since any message from `node`; infinity if none came since the start, 0 for this node."""
        if node == self._node:
            return 0.0
        heard = self._engine.contacts.get(node)
        return float("inf") if heard is None else self._clock.monotonic() - heard

    def clock(self) -> ClockStatus:
        """How this node's clock stands among those of its fellow voters."""
        return self._guard.status()

    def watch(self, group: GroupId, callback: LeadershipCallback) -> Callable[[], None]:
        """Call `callback` at once and at every change of leader or term; returns what ends it."""
        return self._leadership(group).watch(callback)

    def disk(self) -> DiskStatus:
        """How fast the log's disk is, and whether it is why this node leads nothing."""
        return self._engine.pace.status(self._clock.monotonic())

    def _leadership(self, group: GroupId) -> Leadership:
        return self._leaderships.setdefault(group, Leadership(self._node))
