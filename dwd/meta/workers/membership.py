"""Brings the members of every group led here to where they should be, one safe step at a time.

It alone changes members: operators change where they should be (`dwd.meta.core.pins`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from dwd.base.clock import Clock, Rng
from dwd.base.errors import Busy, Conflict, DeadlineExceeded, DwError, NotLeader, SafetyRefused
from dwd.base.ids import CONTROL_GROUP, ID_BITS, GroupId, NodeId, ReplicaId, hex_id
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import Liveness, NodeRow
from dwd.meta.core.membership import Seen, Step, StepChange, next_step, wanted
from dwd.meta.view import ControlView
from dwd.raft.core.types import ChangeKind, Configuration, ConfigurationChange, JointChange, Member, MemberRole
from dwd.raft.status import GroupStatus
from dwd.raft.transport import Absence
from dwd.runtime.worker import Progress

STEP_SECONDS = 10.0
REACHABLE_SECONDS = 3.0
REFUSED_SECONDS_MIN = 0.5
REFUSED_SECONDS_MAX = 10.0
"""A node that could not be given a replica, or told to drop one, is passed over for so long: twice as long each time,
since a node that was just admitted is about to start, and one that is gone is not.
"""
GROUPS_AT_ONCE = 8
LEAVING_MAX = 256
"""Removed replicas whose nodes are still to be told; past it the oldest is left to be found when its node is needed."""

AskReplica = Callable[[NodeId, GroupId, ReplicaId], Awaitable[None]]


class AskForReplica(Protocol):
    """A witness is one from its first moment on: it is given no database."""

    async def __call__(self, node: NodeId, group: GroupId, replica: ReplicaId, *, witness: bool) -> None: ...


_log = structlog.get_logger("dwd.meta")


class Membership(Protocol):
    """What the worker asks of `dwd.raft.host.Host`."""

    def groups(self) -> tuple[GroupId, ...]: ...

    def status(self, group: GroupId) -> GroupStatus: ...

    def hibernates(self, group: GroupId) -> bool: ...

    def missing(self, group: GroupId) -> Mapping[NodeId, Absence]: ...

    async def change(
        self, group: GroupId, change: ConfigurationChange | JointChange, *, deadline: float
    ) -> Configuration: ...

    async def transfer(self, group: GroupId, to: NodeId | None, *, deadline: float) -> NodeId: ...


class MembershipWorker:
    """`create_replica` asks a node to hold an empty replica, `drop_replica` to forget one that was removed
    (dwd.raft.rpc). One group's trouble keeps no other waiting.
    """

    name = "meta.membership"
    idle_seconds = 0.5

    def __init__(
        self,
        *,
        node: NodeId,
        host: Membership,
        view: ControlView,
        create_replica: AskForReplica,
        drop_replica: AskReplica,
        clock: Clock,
        rng: Rng,
    ) -> None:
        self._node = node
        self._host = host
        self._view = view
        self._create_replica = create_replica
        self._drop_replica = drop_replica
        self._clock = clock
        self._rng = rng
        self._refusals = Refusals(clock)
        self._settled: dict[GroupId, Topology] = {}
        """Groups that needed nothing under that topology. While they rest nothing else about them changes."""
        self._leaving: dict[tuple[NodeId, GroupId, ReplicaId], None] = {}

    async def work(self) -> Progress:
        """A step for each group, some side by side: a step is mostly waiting for commits and for other nodes."""
        groups, steps, trouble = iter(self._host.groups()), list[GroupId](), list[DwError]()

        async def reconcile() -> None:
            for group in groups:
                try:
                    if await self._reconcile(group):
                        steps.append(group)
                except DwError as error:
                    trouble.append(error)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(GROUPS_AT_ONCE):
                tasks.create_task(reconcile())
        await self._dismiss()
        if trouble:
            raise trouble[0]
        return Progress.BUSY if steps else Progress.IDLE

    async def _reconcile(self, group: GroupId) -> bool:
        if self._host.hibernates(group) and self._settled.get(group) is self._view.topology():
            return False
        status = self._host.status(group)
        if status.failed is not None or status.leader == 0 or status.leader != status.replica:
            return False
        topology = self._view.topology()
        step = self._decide(status)
        if step is not None:
            return await self._take(status, step)
        if not any(self._refusals.lasts(node.node) for node in topology.nodes):
            self._settled[group] = topology
        return False

    async def _dismiss(self) -> None:
        """Tell nodes of their replicas that were removed; those that cannot be told now are told later, unless they
        left the cluster.
        """
        for node, group, replica in tuple(self._leaving):
            row = self._view.topology().node(node)
            if row is None:
                del self._leaving[node, group, replica]
                continue
            if row.liveness is not Liveness.UP or self._refusals.lasts(node):
                continue
            try:
                await self._drop_replica(node, group, replica)
            except DwError as error:
                self._refusals.note(node)
                _log.info("removed replica not dropped yet", group=group, member_node=hex_id(node), error=str(error))
            else:
                self._refusals.forget(node)
                del self._leaving[node, group, replica]

    def _decide(self, status: GroupStatus) -> Step | None:
        topology = self._view.topology()
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
            admissible={n.node for n in topology.nodes if self._admissible(n, status)},
        )
        return next_step(wanted(topology, status.group, status.configuration), seen)

    def _admissible(self, node: NodeRow, status: GroupStatus) -> bool:
        """Whether to give it a replica now. A node that is down and no member of control is asked now and then: it has
        nothing to speak of, so that nobody could hear that it is back (wiped, after a recovery without it).
        """
        if node.node == self._node or self._refusals.lasts(node.node):
            return False
        stranger = status.group == CONTROL_GROUP and status.configuration.on_node(node.node) is None
        return stranger or node.liveness is Liveness.UP

    async def _take(self, status: GroupStatus, step: Step) -> bool:
        """False: not now, look again after a rest."""
        group, deadline = status.group, self._clock.monotonic() + STEP_SECONDS
        try:
            if step.hand_over is not None:
                await self._host.transfer(group, step.hand_over, deadline=deadline)
                _log.info("leadership handed over: this node is to vote no longer", group=group)
                return True
            changes: list[ConfigurationChange] = []
            for change in step.changes:
                member = await self._member(status, change)
                if member is None:
                    return False
                changes.append(ConfigurationChange(kind=change.kind, member=member))
            wish = changes[0] if len(changes) == 1 else JointChange(changes=tuple(changes))
            await self._host.change(group, wish, deadline=deadline)
        except (Busy, Conflict, DeadlineExceeded, NotLeader, SafetyRefused):
            return False
        for made in changes:
            if made.kind is ChangeKind.REMOVE:
                self._remember(made.member, group)
            member_node = hex_id(made.member.node)
            _log.info("membership changed", group=group, step=made.kind.name.lower(), member_node=member_node)
        return True

    def _remember(self, member: Member, group: GroupId) -> None:
        """Its node is to be told that it was removed."""
        self._leaving[member.node, group, member.replica] = None
        if len(self._leaving) > LEAVING_MAX:
            del self._leaving[next(iter(self._leaving))]

    async def _member(self, status: GroupStatus, change: StepChange) -> Member | None:
        """The member a change names; a new replica is created first, so that it can answer at once. None: its node
        could not be given one now.
        """
        if change.kind in {ChangeKind.PROMOTE, ChangeKind.DEMOTE, ChangeKind.REMOVE}:
            present = status.configuration.find(change.replica)
            if present is None:
                raise Conflict("meta.member_gone", "the member left meanwhile")
            return present
        replica = ReplicaId(self._rng.bits(ID_BITS) | 1)
        lost = status.configuration.on_node(change.node)
        witness = change.kind is ChangeKind.ADD_WITNESS or (lost is not None and lost.role is MemberRole.WITNESS)
        try:
            await self._create_replica(change.node, status.group, replica, witness=witness)
        except DwError as error:
            self._refusals.note(change.node)
            _log.info("replica not created yet", group=status.group, member_node=hex_id(change.node), error=str(error))
            return None
        self._refusals.forget(change.node)
        role = MemberRole.WITNESS if witness else MemberRole.LEARNER
        return Member(node=change.node, replica=replica, role=role)


class Refusals:
    """How long each node that refused, or did not answer, is passed over. Bounded by the nodes there are."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[NodeId, tuple[float, float]] = {}
        """The end of its rest, and how long the rest is."""

    def lasts(self, node: NodeId) -> bool:
        return node in self._until and self._clock.monotonic() < self._until[node][0]

    def note(self, node: NodeId) -> None:
        _, before = self._until.get(node, (0.0, REFUSED_SECONDS_MIN / 2))
        rest = min(2 * before, REFUSED_SECONDS_MAX)
        self._until[node] = (self._clock.monotonic() + rest, rest)

    def forget(self, node: NodeId) -> None:
        self._until.pop(node, None)
