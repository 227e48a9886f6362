"""One node's host of Raft: runs every group's core over one shared log.

All methods are called on the event loop. Deadlines are absolute, on the injected clock's `monotonic`; they are kept
to within a tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from dwd.base.clock import Clock, Rng
from dwd.base.errors import DeadlineExceeded, InvalidArgument, InvariantViolation, NotFound, NotLeader
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term
from dwd.base.limits import COMMAND_BYTES_MAX
from dwd.raft.clock_guard import ClockGuard
from dwd.raft.clocks import ClockProbe, PeerClocks
from dwd.raft.compaction import Compaction
from dwd.raft.complaints import Complaints
from dwd.raft.core.messages import SnapshotOffer
from dwd.raft.core.types import Configuration, ConfigurationChange, JointChange, Member, Role
from dwd.raft.departure import hand_over_all
from dwd.raft.engine import Engine, stopped
from dwd.raft.host_view import HostView
from dwd.raft.leadership import Leadership
from dwd.raft.lifecycle import Lifecycle
from dwd.raft.options import HostOptions
from dwd.raft.persister import Persister
from dwd.raft.ports import Applied, LogStore, StateMachine
from dwd.raft.proposals import Wish
from dwd.raft.quarantine import Quarantines
from dwd.raft.reads import BOOT_BITS
from dwd.raft.reception import Reception
from dwd.raft.replica import Replica, quarantined
from dwd.raft.slow_disk import SlowDisk
from dwd.raft.snapshots.copies import Copies
from dwd.raft.snapshots.transfers import INCOMING, Transfers
from dwd.raft.status import CompactionReport
from dwd.raft.surroundings import Surroundings
from dwd.raft.transport import Transport
from dwd.runtime.serial import Lanes
from dwd.runtime.tasks import Tasks

T = TypeVar("T")
_log = structlog.get_logger("dwd.raft")

HOUSEKEEPING_TICKS = 10
"""Between looks at what the log must be rid of."""


class Host(HostView):
    """Runs all groups of a node. Built on the event loop it runs on."""

    def __init__(
        self,
        *,
        node: NodeId,
        log: LogStore,
        transport: Transport,
        machines: Callable[[GroupId], StateMachine],
        discard_machine: Callable[[GroupId], None],
        snapshots: Path,
        lanes: Lanes,
        clock: Clock,
        rng: Rng,
        options: HostOptions,
        on_fatal: Callable[[BaseException], None],
        bulk: Lanes | None = None,
        clocks: PeerClocks | None = None,
    ) -> None:
        """`machines` opens or creates a group's machine, `discard_machine` removes all that is stored of it (it is
        closed, or could not be opened; a missing one is no error): both are called on `lanes`. `snapshots` is
        a directory for copies in transit, emptied at start but for what transfers left; `bulk` (`lanes`, if not given)
        does the copying and receiving. `on_fatal` is called once when the node must stop. Without `clocks` this node's
        own clock is believed, whatever it says.
        """
        self._node = node
        self._log = log
        self._options = options
        self._transport = transport
        self._snapshots = snapshots
        self._lanes = lanes
        self._clock = clock
        self._on_fatal = on_fatal
        self._fatal = self._stopped = False
        self._ticks = 0
        self._leaderships: dict[GroupId, Leadership] = {}
        self._tasks = Tasks("raft.host", self._task_failed)
        complaints = Complaints(clock)
        boot = rng.bits(BOOT_BITS)
        self._engine = Engine(
            node=node, boot=boot, clock=clock, options=options, transport=transport, complaints=complaints,
            tasks=self._tasks, on_fatal=self._die, on_tick=self._housekeep,
        )  # fmt: skip
        self._persister = Persister(
            log, clock, self._tasks, in_flight_max=options.writes_in_flight, stir=self._engine.stir,
            pace=self._engine.pace,
        )  # fmt: skip
        bulk = lanes if bulk is None else bulk
        self._copies = Copies(snapshots, node=node, lanes=bulk, options=options, clock=clock, rng=rng)
        self._transfers = Transfers(
            snapshots, transport=transport, lanes=bulk, options=options, clock=clock, tasks=self._tasks,
            fail=self._engine.fail,
        )  # fmt: skip
        self._quarantines = Quarantines(self._engine)
        self._compaction = Compaction(log, options, copies=self._copies, last_contact=self.last_contact)
        self._guard = ClockGuard(clock)
        self._slow_disk = self._slow_disk_of()
        self._probe = None if clocks is None else self._probe_of(clocks)
        self._lifecycle = Lifecycle(
            engine=self._engine, around=self._surroundings(boot, options, complaints), machines=machines,
            discard_machine=discard_machine, leadership=self._leadership, lanes=lanes, rng=rng,
        )  # fmt: skip

    def _slow_disk_of(self) -> SlowDisk:
        return SlowDisk(
            node=self._node, pace=self._engine.pace, clock=self._clock, engine=self._engine,
            transport=self._transport, transfer=self._transfer,
        )  # fmt: skip

    def _probe_of(self, clocks: PeerClocks) -> ClockProbe:
        return ClockProbe(
            node=self._node, clock=self._clock, peers=clocks, engine=self._engine, guard=self._guard,
            hand_over=self._transfer,
        )  # fmt: skip

    def _surroundings(self, boot: int, options: HostOptions, complaints: Complaints) -> Surroundings:
        engine = self._engine
        return Surroundings(
            node=self._node, boot=boot, clock=self._clock, guard=self._guard,
            pace=engine.pace, departing=lambda: engine.departing, options=options, complaints=complaints,
            log=self._log, persister=self._persister, transport=self._transport, spawn=engine.spawn, nap=engine.nap,
            stir=engine.stir, fail=engine.fail, fetch_snapshot=self._fetch_snapshot,
        )  # fmt: skip

    async def start(self) -> None:
        """Recover every group of the log, open their machines, start the transport and the loop."""
        await self._lanes.run(partial(_empty, self._snapshots))
        self._transfers.keep_remains()
        await self._lifecycle.recover()
        await self._transport.start(Reception(self._engine, self._copies, self._lifecycle))
        _ = self._tasks.spawn(self._engine.run(self._persister), name="loop")
        _ = self._tasks.spawn(self._engine.run_ticks(), name="ticks")
        if self._probe is not None:
            _ = self._tasks.spawn(self._probe.run(), name="clocks")

    async def stop(self, *, hand_over: bool = True) -> None:
        """Leaderships are handed over, within `hand_over_seconds`; then waiting proposals and reads are failed.
        Closes transport and machines, not the log. Safe to call twice.

        The way to others is closed first: a node on its way down must not say that its replicas are missing.
        """
        if hand_over and self._options.hand_over_seconds and not (self._fatal or self._engine.departing):
            self._engine.departing = True
            await hand_over_all(
                self._engine, self._transfer, self._clock, seconds=self._options.hand_over_seconds
            )  # fmt: skip
        self._stopped = True
        self._slow_disk.close()
        await self._transport.close()
        await self._tasks.close()
        for group in tuple(self._engine.replicas):
            self._engine.close_replica(self._engine.replicas.pop(group), stopped(group))
        await self._lifecycle.close()
        self._guard.close()

    async def bootstrap(self, group: GroupId, configuration: Configuration) -> None:
        """Create the first replica of a new group, one of whose voters is on this node: usually the only one, else
        every node named is to be given the same configuration. Idempotent; before or after `start`'s loop runs.
        """
        await self._lifecycle.bootstrap(group, configuration)

    async def propose(self, group: GroupId, payload: bytes, *, deadline: float) -> Applied:
        """Replicate a command and return the machine's result for it.

        Raises NotLeader, Busy, NoSpace, Unavailable, DeadlineExceeded (nothing was changed), NotFound (no such group),
        OutcomeUnknown (accepted, then leadership was lost or the deadline passed: it may still take effect).
        """
        if len(payload) > COMMAND_BYTES_MAX:
            raise InvalidArgument("raft.command_too_large", f"a command has at most {COMMAND_BYTES_MAX} bytes")
        return await self._propose(group, payload, deadline)

    async def read_index(self, group: GroupId, *, deadline: float) -> LogIndex:
        """Return once the local machine has applied all that was committed when this was called: a read of it
        afterwards is linearizable. On any replica. Raises Unavailable, Busy, NotFound.
        """
        replica = self._replica(group)
        if replica.quarantined is not None:
            raise quarantined(group)
        future: asyncio.Future[LogIndex] = asyncio.get_running_loop().create_future()
        replica.reads.add(deadline, future)
        self._engine.stir(group)
        return await future

    async def change(
        self, group: GroupId, change: ConfigurationChange | JointChange, *, deadline: float
    ) -> Configuration:
        """On the leader: one membership step, or several at once; returns once the new configuration alone is in force.
        Raises Conflict while another is in flight, SafetyRefused when quorum would be at risk, and what `propose`
        raises.
        """
        applied = await self._propose(group, change, deadline)
        if not isinstance(applied.result, Configuration):
            raise InvariantViolation("a membership change was applied as something else", group=group)
        if not applied.result.is_joint:
            return applied.result
        replica = self._replica(group)
        _, newest = replica.configurations[-1]
        if not newest.is_joint:
            return newest
        left: asyncio.Future[Configuration] = asyncio.get_running_loop().create_future()
        replica.joint_waits.add(deadline, left)
        return await left

    async def transfer(self, group: GroupId, to: NodeId | None, *, deadline: float) -> NodeId:
        """On the leader: hand leadership to the voter on `to` (None: to the fittest). Returns who leads once another
        node does. Raises NotLeader, NotFound, Conflict, SafetyRefused, and DeadlineExceeded if nobody took over.
        """
        replica = self._replica(group)
        if to == self._node and replica.soft.role is Role.LEADER:
            return self._node
        self._engine.wake(group)
        future: asyncio.Future[NodeId] = asyncio.get_running_loop().create_future()
        replica.handover.begin(replica.core, to, deadline, future)
        self._engine.stir(group)
        return await future

    async def quarantine(self, group: GroupId, reason: str) -> None:
        """The local replica's state is not to be trusted: from now on, across restarts, it votes but neither leads nor
        serves nor applies, until a snapshot from the leader has replaced its state, which begins at once. Hand
        leadership over first. Raises SafetyRefused for a group's only voter, NotFound, StorageFailed. Idempotent.
        """
        await self._quarantines.begin(self._replica(group), reason)

    async def examine(self, group: GroupId, work: Callable[[StateMachine], T]) -> T:
        """Run short `work` on the group's machine between batches, on its lane. Raises NotFound, Unavailable, and what
        `work` raises; a Corrupt or StorageFailed stops the replica or the node as anywhere.
        """
        return await self._quarantines.examine(self._replica(group), work)

    def set_alarm(self, group: GroupId, alarm: str | None) -> None:
        """Say in the group's status what the cluster cannot mend by itself; None: nothing any more."""
        replica = self._engine.replicas.get(group)
        if replica is not None:
            replica.alarm = alarm

    async def create_replica(self, group: GroupId, replica: ReplicaId, *, witness: bool = False) -> None:
        """An empty replica that waits to be added to the group; a witness keeps a log and no state
        machine. Discards an older local one that is not in use.
        Idempotent for the same id. Raises Conflict if a working replica of the group lives here.
        """
        await self._lifecycle.create(group, replica, witness=witness)

    async def drop_replica(self, group: GroupId) -> None:
        """Forget the local replica: its log is dropped, its machine closed and discarded."""
        self._transfers.cancel(group)
        await self._lifecycle.drop(group)

    async def compact(self, group: GroupId) -> CompactionReport:
        """Cut the group's log here now, as far as its state is durable and followers that are alive have read it.

        Raises Busy (a long reader keeps the checkpoint from finishing, or a compaction is under way), NoSpace,
        Unavailable, NotFound (no such group here).
        """
        return await self._compaction.on_demand(self._replica(group))

    async def reseat(self, group: GroupId, *, last: LogIndex, voter: Member, term: Term) -> None:
        """Outside of the protocol: the replica here becomes its group's only voter, with its log up to `last`. Only
        when a quorum is gone for good (`dwd.raft.quorum_loss`). Idempotent. Raises NotFound, Conflict, Busy.
        """
        self._transfers.cancel(group)
        await self._lifecycle.reseat(group, last=last, voter=voter, term=term)

    def fail_waiting(self) -> None:
        """Proposals and reads that wait now fail as when the host stops: it is about to, and a quorum may be gone."""
        for group, replica in self._engine.replicas.items():
            replica.proposals.close(stopped(group))
            replica.reads.close(stopped(group))

    def give_up(self, group: GroupId) -> None:
        """The group goes on elsewhere without the replica here, which may be replaced at any time."""
        self._lifecycle.give_up(group)

    # -- inside -------------------------------------------------------------------------------------------------

    async def _propose(self, group: GroupId, wish: Wish, deadline: float) -> Applied:
        replica = self._replica(group)
        if replica.soft.role is not Role.LEADER:
            raise NotLeader(
                "raft.not_leader", "this node does not lead the group", group=group,
                leader_node=replica.leadership.node,
            )  # fmt: skip
        if deadline <= self._clock.monotonic():
            raise DeadlineExceeded("raft.not_proposed", "the deadline had passed; nothing was changed", group=group)
        future: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        replica.proposals.add(wish, deadline, future)
        self._engine.stir(group)
        return await future

    def _replica(self, group: GroupId) -> Replica:
        """Raises NotFound, or Unavailable for one that is broken or stopping."""
        if self._stopped or group in self._engine.broken:
            raise stopped(group)
        replica = self._engine.replicas.get(group)
        if replica is not None:
            return replica
        raise NotFound("raft.no_group", "this node has no replica of the group", group=group)

    def _fetch_snapshot(self, group: GroupId, offer: SnapshotOffer) -> None:
        replica = self._engine.replicas.get(group)
        if replica is not None:
            self._transfers.start(replica, offer)

    async def _transfer(self, group: GroupId, deadline: float) -> NodeId:
        """To whoever is fit."""
        return await self.transfer(group, None, deadline=deadline)

    def _housekeep(self, now: float) -> None:
        """Start compactions that are due."""
        self._ticks += 1
        if self._ticks % HOUSEKEEPING_TICKS:
            return
        self._slow_disk.look(now)
        self._copies.sweep()
        self._transfers.sweep()
        pinning = set(self._log.pinning())
        for group, replica in self._engine.replicas.items():
            pinned = group in pinning
            if self._compaction.due(replica, now, pinned=pinned):
                self._engine.spawn(group, self._compaction.compact(replica, now, pinned=pinned), name="compact")

    def _task_failed(self, name: str, error: BaseException) -> None:
        _log.critical("a task of the host failed", task=name, exc_info=error)
        self._die(error)

    def _die(self, error: BaseException) -> None:
        if not self._fatal:
            self._fatal = True
            self._on_fatal(error)


def _empty(directory: Path) -> None:
    """Copies of an earlier run mean nothing to this one; what was received goes on being received."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if not path.name.startswith(INCOMING):
            path.unlink(missing_ok=True)
