"""Brings the members of every group led here to where they should be, one safe step at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from dwd.base.clock import Clock, Rng
from dwd.base.errors import Conflict, DwError, NotLeader, SafetyRefused
from dwd.base.ids import CONTROL_GROUP, ID_BITS, GroupId, NodeId, ReplicaId, hex_id
from dwd.meta.core.control.rows import Liveness
from dwd.meta.core.membership import Seen, Step, desired, next_step
from dwd.meta.view import ControlView
from dwd.raft.core.types import ChangeKind, Configuration, ConfigurationChange, Member, MemberRole
from dwd.raft.status import GroupStatus
from dwd.raft.transport import Absence
from dwd.runtime.worker import Progress

STEP_SECONDS = 10.0
REACHABLE_SECONDS = 3.0
REFUSED_SECONDS = 10.0
"""A node that could not be given a replica is passed over for so long."""

CreateReplica = Callable[[NodeId, GroupId, ReplicaId], Awaitable[None]]

_log = structlog.get_logger("dwd.meta")


class Membership(Protocol):
    """What the worker asks of `dwd.raft.host.Host`."""

    def groups(self) -> tuple[GroupId, ...]: ...

    def status(self, group: GroupId) -> GroupStatus: ...

    def missing(self, group: GroupId) -> Mapping[NodeId, Absence]: ...

    async def change(self, group: GroupId, change: ConfigurationChange, *, deadline: float) -> Configuration: ...


class MembershipWorker:
    """`create_replica` asks a node to hold an empty replica (dwd.raft.rpc)."""

    name = "meta.membership"
    idle_seconds = 0.5

    def __init__(
        self,
        *,
        node: NodeId,
        host: Membership,
        view: ControlView,
        create_replica: CreateReplica,
        clock: Clock,
        rng: Rng,
    ) -> None:
        self._node = node
        self._host = host
        self._view = view
        self._create_replica = create_replica
        self._clock = clock
        self._rng = rng
        self._refused: dict[NodeId, float] = {}

    async def work(self) -> Progress:
        progress = Progress.IDLE
        for group in self._host.groups():
            status = self._host.status(group)
            if status.failed is not None or status.leader == 0 or status.leader != status.replica:
                continue
            step = self._decide(status)
            if step is not None and await self._take(status, step):
                progress = Progress.BUSY
        return progress

    def _decide(self, status: GroupStatus) -> Step | None:
        topology = self._view.topology()
        now = self._clock.monotonic()
        wanted = desired(topology.nodes, status.configuration, everywhere=status.group == CONTROL_GROUP)
        seen = Seen(
            leader=self._node,
            configuration=status.configuration,
            caught_up={m.member.node for m in status.members if m.caught_up},
            missing=set(self._host.missing(status.group)),
            reachable={
                m.member.node
                for m in status.members
                if m.member.node == self._node or m.last_contact_seconds <= REACHABLE_SECONDS
            },
            admissible={
                n.node
                for n in topology.nodes
                if n.liveness is Liveness.UP and self._refused.get(n.node, now) <= now and n.node != self._node
            },
        )
        return next_step(wanted, seen)

    async def _take(self, status: GroupStatus, step: Step) -> bool:
        """False: not now, look again after a rest."""
        group, deadline = status.group, self._clock.monotonic() + STEP_SECONDS
        try:
            member = await self._member(status, step)
            await self._host.change(group, ConfigurationChange(kind=step.kind, member=member), deadline=deadline)
        except (Conflict, NotLeader, SafetyRefused):
            return False
        _log.info("membership changed", group=group, step=step.kind.name.lower(), member_node=hex_id(step.node))
        return True

    async def _member(self, status: GroupStatus, step: Step) -> Member:
        """The member a step names; a new replica is created first, so that it can answer at once."""
        if step.kind in {ChangeKind.PROMOTE, ChangeKind.REMOVE}:
            present = status.configuration.find(step.replica)
            if present is None:
                raise Conflict("meta.member_gone", "the member left meanwhile")
            role = MemberRole.VOTER if step.kind is ChangeKind.PROMOTE else present.role
            return Member(node=present.node, replica=present.replica, role=role, priority=present.priority)
        replica = ReplicaId(self._rng.bits(ID_BITS) | 1)
        try:
            await self._create_replica(step.node, status.group, replica)
        except DwError:
            self._refused[step.node] = self._clock.monotonic() + REFUSED_SECONDS
            raise
        return Member(node=step.node, replica=replica, role=MemberRole.LEARNER)
