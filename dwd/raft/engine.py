"""The one loop that runs every group of a node: drain the inbox, tick, pump what was stirred, flush the log writes.

It sleeps until something happens and never waits for disk or network: those tell it when they are done. A tick that
comes late is one tick: a pause of this process must not make its followers stand. Its leaders are told how many were
missed: what they heard before says nothing any more (raft.md section 5).

Invariant: an error in one group's turn stops that group here and no other; only a failed log stops the node.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import DwError, InvariantViolation, StorageFailed, Unavailable
from dwd.base.ids import GroupId, NodeId, ReplicaId
from dwd.raft.complaints import NO_REPLICA_HERE, Complaints
from dwd.raft.core.status import NodeStatus
from dwd.raft.disk_pace import DiskPace
from dwd.raft.hibernation import Hibernation
from dwd.raft.options import HostOptions
from dwd.raft.persister import Persister
from dwd.raft.replica import Replica
from dwd.raft.telemetry import DROPPED, LOOP_LAG_SECONDS
from dwd.raft.transport import NODES, Absence, Absent, Beat, Nap, NapReply, Pace, Parcel, Transport
from dwd.runtime.tasks import Tasks

_log = structlog.get_logger("dwd.raft")


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A replica that stopped serving here. `last` is what it looked like then; None if it never ran."""

    replica: ReplicaId
    error: DwError
    last: NodeStatus | None


class Engine:
    """Holds the live replicas and the broken ones. `on_tick(now)` runs after each tick, for slow housekeeping."""

    def __init__(
        self,
        *,
        node: NodeId,
        boot: int,
        clock: Clock,
        options: HostOptions,
        transport: Transport,
        complaints: Complaints,
        tasks: Tasks,
        on_fatal: Callable[[BaseException], None],
        on_tick: Callable[[float], None],
    ) -> None:
        self.replicas: dict[GroupId, Replica] = {}
        self.broken: dict[GroupId, Broken] = {}
        self.pace = DiskPace(limit_seconds=options.slow_sync_seconds)
        self.departing = False
        """This node is about to stop."""
        self.contacts: dict[NodeId, float] = {}
        """When each node was last heard of, on the monotonic clock."""
        self._clock = clock
        self._options = options
        self._transport = transport
        self._complaints = complaints
        self._tasks = tasks
        self._on_fatal = on_fatal
        self._on_tick = on_tick
        self._inbox: deque[tuple[NodeId, GroupId, Sequence[Parcel]]] = deque()
        self._inbox_size = 0
        self._unreachable: set[NodeId] = set()
        self._stirred: set[GroupId] = set()
        self._tick_due = False
        self._missed = 0
        self._wake = asyncio.Event()
        self.hibernation = Hibernation(
            node=node, boot=boot, replicas=self.replicas, options=options, transport=transport, stir=self.stir
        )

    # -- what others tell the loop ------------------------------------------------------------------------------

    def received(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        self.contacts[node] = self._clock.monotonic()
        self.hibernation.heard(node)
        if self._inbox_size + len(parcels) > self._options.inbox_max:
            DROPPED.add(len(parcels), queue="inbox")
            return
        self._inbox_size += len(parcels)
        self._inbox.append((node, group, parcels))
        self._wake.set()

    def unreachable(self, node: NodeId) -> None:
        self._unreachable.add(node)
        self._wake.set()

    def nap(self, replica: Replica, node: NodeId, parcel: Nap | NapReply) -> None:
        if isinstance(parcel, Nap):
            self.hibernation.asked(replica, node, parcel)
        else:
            self.hibernation.answered(replica, parcel)

    def wake(self, group: GroupId) -> None:
        """Somebody is about to want something of the group."""
        replica = self.replicas.get(group)
        if replica is not None:
            self.hibernation.wake(replica)

    def stir(self, group: GroupId) -> None:
        self._stirred.add(group)
        self._wake.set()

    def fail(self, group: GroupId, error: BaseException) -> None:
        """Stop `group` on this node, or the node itself if it is the storage that failed."""
        if isinstance(error, StorageFailed):
            self._on_fatal(error)
            return
        replica = self.replicas.pop(group, None)
        if replica is None:
            return
        reason = error if isinstance(error, DwError) else InvariantViolation(f"unexpected {error!r}", group=group)
        names, hint = replica.names(), {"hint": reason.hint} if reason.hint else {}
        _log.critical("group stops serving on this node", **names, error=str(reason), **hint, exc_info=error)
        self.broken[group] = Broken(replica=replica.id, error=reason, last=replica.core.status())
        self.close_replica(replica, stopped(group))

    def spawn(self, group: GroupId, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Background work for the group's replica, with its errors kept to that replica."""
        _ = self._tasks.spawn(self._contained(group, self.replicas.get(group), work), name=f"{name}-{group}")

    def close_replica(self, replica: Replica, error: DwError) -> None:
        replica.closed = True
        self.hibernation.gone(replica)
        replica.proposals.close(error)
        replica.reads.close(error)
        replica.handover.close(error)
        replica.joint_waits.close()
        replica.leadership.changed(NodeId(0), replica.soft.term)
        replica.applier.close()

    # -- the loop -----------------------------------------------------------------------------------------------

    async def run(self, persister: Persister) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._turn()
            persister.flush()

    async def run_ticks(self) -> None:
        """Until cancelled. Missed ticks are counted, not made up for."""
        period = self._options.tick_ms / 1000
        due = self._clock.monotonic() + period
        while True:
            await asyncio.sleep(max(0.0, due - self._clock.monotonic()))
            now = self._clock.monotonic()
            lag = max(0.0, now - due)
            LOOP_LAG_SECONDS.record(lag)
            self._missed += int(lag / period)
            due = due + period if lag < period else now + period
            self._tick_due = True
            self._wake.set()

    def _turn(self) -> None:
        inbox, self._inbox, self._inbox_size = self._inbox, deque(), 0
        for node, group, parcels in inbox:
            replica = self.replicas.get(group)
            if group == NODES:
                self._take_word(node, parcels)
            elif replica is None:
                self._answer_absent(node, group, parcels)
            else:
                self._guard(replica, partial(replica.receive, node, parcels))
                self._stirred.add(group)
        if self._unreachable:
            self._report_unreachable()
        if self._tick_due:
            self._tick()
        stirred, self._stirred = self._stirred, set()
        for group in stirred:
            replica = self.replicas.get(group)
            if replica is not None:
                self._guard(replica, partial(self._pump, replica))

    def _pump(self, replica: Replica) -> None:
        """What has something to do does not rest."""
        if replica.dormant and replica.waits():
            self.hibernation.wake(replica)
        replica.pump()

    def _take_word(self, node: NodeId, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            if isinstance(parcel, Beat):
                self.hibernation.beat(node, parcel)
            elif isinstance(parcel, Pace):
                self.pace.heard(node, parcel.sync_us / 1_000_000, self._clock.monotonic())

    def _tick(self) -> None:
        self._tick_due = False
        now = self._clock.monotonic()
        self.hibernation.tick(now)
        awake = [replica for replica in self.replicas.values() if not replica.dormant]
        missed, self._missed = self._missed, 0
        for replica in awake:
            self._guard(replica, partial(replica.tick, now, missed))
            self._stirred.add(replica.group)
        self._on_tick(now)

    def _report_unreachable(self) -> None:
        nodes, self._unreachable = self._unreachable, set()
        for node in nodes:
            self.hibernation.unreachable(node)
        for replica in tuple(self.replicas.values()):
            for node in nodes:
                self._guard(replica, partial(replica.node_unreachable, node))
            self._stirred.add(replica.group)

    def _guard(self, replica: Replica, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other groups must go on
            self.fail(replica.group, error)

    def _answer_absent(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        broken = self.broken.get(group)
        for parcel in parcels:
            if not isinstance(parcel, Absent):
                self._complaints.note(NO_REPLICA_HERE, group=group, source=parcel.source, node=node)
                quarantined = broken is not None and broken.replica == parcel.target
                reason = Absence.QUARANTINED if quarantined else Absence.UNKNOWN
                absent = Absent(source=parcel.target, target=parcel.source, reason=reason)
                self._transport.send(node, group, [absent])

    async def _contained(self, group: GroupId, replica: Replica | None, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - as in `_guard`
            if self.replicas.get(group) is replica or isinstance(error, StorageFailed):
                self.fail(group, error)
            else:
                _log.info("work for a replica that is gone failed", group=group, error=repr(error))


def stopped(group: GroupId) -> Unavailable:
    return Unavailable("raft.replica_stopped", "this node stopped serving the group", group=group)
