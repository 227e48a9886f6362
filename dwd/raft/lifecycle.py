"""How replicas come to live on a node and leave it: recovered at start, bootstrapped, created empty, dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from dwd.base.clock import Rng
from dwd.base.errors import Conflict, Corrupt, DwError, InvalidArgument, NotFound, StorageFailed
from dwd.base.ids import GroupId, LogIndex, ReplicaId, Stamp, Term
from dwd.raft.applier import Applier
from dwd.raft.core.configuration_codec import encode_configuration
from dwd.raft.core.node import Node
from dwd.raft.core.types import (
    EMPTY_HARD_STATE,
    EMPTY_SNAPSHOT,
    NO_REPLICA,
    ZERO_INDEX,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    MemberRole,
    Role,
    SnapshotMeta,
)
from dwd.raft.engine import Broken, Engine, stopped
from dwd.raft.leadership import Leadership
from dwd.raft.open_machines import OpenMachines
from dwd.raft.ports import Doubt, LogWrite, RecoveredLog, StateMachine
from dwd.raft.quorum_loss.reseat import settle
from dwd.raft.recovery import configurations, reconcile
from dwd.raft.replica import Replica
from dwd.raft.surroundings import Surroundings
from dwd.raft.witness_machine import WitnessMachine
from dwd.runtime.serial import Lane, Lanes

_log = structlog.get_logger("dwd.raft")

FIRST_TERM = Term(1)
FIRST_HARD_STATE = HardState(term=FIRST_TERM, vote=NO_REPLICA, commit=ZERO_INDEX)


class Lifecycle:
    """One a host. Changes to one group take their turn."""

    def __init__(
        self,
        *,
        engine: Engine,
        around: Surroundings,
        machines: Callable[[GroupId], StateMachine],
        discard_machine: Callable[[GroupId], None],
        leadership: Callable[[GroupId], Leadership],
        lanes: Lanes,
        rng: Rng,
    ) -> None:
        self._engine = engine
        self._around = around
        self._machines = machines
        self._discard_machine = discard_machine
        self._leadership = leadership
        self._lanes = lanes
        self._rng = rng
        self._turns: dict[GroupId, asyncio.Lock] = {}
        self._open_machines = OpenMachines(around.options.machines_open_max)
        self._lane_of: dict[GroupId, Lane] = {}
        self._given_up: set[GroupId] = set()

    async def recover(self) -> None:
        """Open every group the log knows. A broken one is kept aside, the others run."""
        for log in tuple(self._around.log.recovered().values()):
            async with self._turn(log.group):
                await self._open_or_break(log)
        self._around.log.release_recovered()

    async def bootstrap(self, group: GroupId, configuration: Configuration) -> None:
        own = configuration.on_node(self._around.node)
        if own is None:
            raise InvalidArgument("raft.bootstrap", "the first configuration has no member on this node", group=group)
        async with self._turn(group):
            if group in self._engine.replicas or group in self._engine.broken or group in self._around.log.recovered():
                return
            witness = own.role is MemberRole.WITNESS
            if not witness:
                await self._require_no_data(group)
            await self._begin(group, own.replica, FIRST_HARD_STATE, (first_entry(configuration),), witness=witness)

    async def create(self, group: GroupId, replica: ReplicaId, *, witness: bool = False) -> None:
        async with self._turn(group):
            present = self._engine.replicas.get(group)
            if present is not None and present.id == replica:
                return
            broken = self._engine.broken.get(group)
            if broken is not None and broken.replica == replica:
                raise Conflict("raft.replica_broken", "a replica that broke never comes back as itself", group=group)
            if present is not None and group not in self._given_up and self._in_use(present):
                raise Conflict("raft.replica_in_use", "a working replica of the group lives here", group=group)
            await self._forget(group)
            self._given_up.discard(group)
            await self._begin(group, replica, EMPTY_HARD_STATE, (), witness=witness)

    async def drop(self, group: GroupId, replica: ReplicaId | None = None) -> None:
        """Forget the group's replica; with `replica`, only if it is that one."""
        async with self._turn(group):
            present = self._engine.replicas.get(group)
            broken = self._engine.broken.get(group)
            here = present.id if present is not None else broken.replica if broken is not None else None
            if replica in (None, here):
                await self._forget(group)

    async def reseat(self, group: GroupId, *, last: LogIndex, voter: Member, term: Term) -> None:
        """The replica here goes on as `voter`, alone, with all its log holds (`dwd.raft.quorum_loss.reseat`).
        Idempotent. Raises NotFound, Conflict, Busy.
        """
        async with self._turn(group):
            present = self._engine.replicas.get(group)
            if present is not None and present.id == voter.replica:
                return
            broken = self._engine.broken.get(group)
            if present is not None:
                broken = Broken(replica=present.id, error=stopped(group), last=present.core.status())
                _ = self._engine.replicas.pop(group)
                self._engine.broken[group] = broken
                self._engine.close_replica(present, stopped(group))
                await present.applier.closed()
            if broken is None:
                raise NotFound("raft.no_group", "this node has no replica of the group", group=group)
            self._around.persister.forget(group)
            lane = self._lanes.lane(f"group-{group}")
            machine = await lane.submit(partial(self._machines, group))
            try:
                write = await settle(machine, lane, self._around.log, group=group, last=last, voter=voter, term=term)
                await self._around.log.write([write])
            finally:
                lane.close(machine.close)
                await lane.closed()
            await self._open(_reset_log(write))

    def give_up(self, group: GroupId) -> None:
        """The group goes on elsewhere, without the replica here: it may be replaced at any time."""
        self._given_up.add(group)

    async def close(self) -> None:
        """Once every machine is closed."""
        for lane in tuple(self._lane_of.values()):
            await lane.closed()

    # -- steps --------------------------------------------------------------------------------------------------

    async def _require_no_data(self, group: GroupId) -> None:
        """A database whose log is gone is what is left of a replica, not a place for a new group. Raises Conflict."""
        position = await self._lanes.run(partial(self._peek, group))
        if position.index > 0:
            raise Conflict(
                "raft.log_missing",
                f"there is a database of group {group} at index {position.index}, but no log of it",
                hint="restore the log directory; if this node is meant to begin anew, empty its data directory",
                group=group,
            )

    def _peek(self, group: GroupId) -> SnapshotMeta:
        machine = self._machines(group)
        try:
            return machine.position()
        finally:
            machine.close()

    async def _begin(
        self, group: GroupId, replica: ReplicaId, hard_state: HardState, entries: tuple[Entry, ...], *, witness: bool
    ) -> None:
        """A new replica: durable in the log first, so that a crash leaves nothing half made."""
        write = LogWrite(
            group=group, replica=replica, hard_state=hard_state, entries=entries, reset=EMPTY_SNAPSHOT, witness=witness
        )  # fmt: skip
        await self._around.log.write([write])
        fresh = RecoveredLog(
            group=group,
            replica=replica,
            hard_state=hard_state,
            compacted=EMPTY_SNAPSHOT,
            entries=entries,
            doubt=Doubt.NONE,
            witness=witness,
        )
        await self._open(fresh)
        _log.info("replica created", group=group, replica=replica, witness=witness)

    async def _open_or_break(self, log: RecoveredLog) -> None:
        """What is left of a broken one stays until a leader has it replaced: it may be all there is."""
        try:
            if log.doubt is Doubt.CORRUPT:
                raise Corrupt("raft.log_corrupt", "the log of this replica has holes", group=log.group)
            await self._open(log)
        except StorageFailed:
            raise
        except DwError as error:
            _log.critical("group cannot serve on this node", group=log.group, error=str(error))
            self._engine.broken[log.group] = Broken(replica=log.replica, error=error, last=None)

    async def _open(self, log: RecoveredLog) -> None:
        lane = self._lanes.lane(f"group-{log.group}")
        machine = None
        try:
            machine = await lane.submit(partial(self._machine, log))
            position = await lane.submit(machine.position)
            log, write = reconcile(log, position)
            if write is not None:
                _log.warning("log reset to the state machine", group=log.group)
                await self._around.log.write([write])
            self._run(log, machine, position, lane)
        except BaseException:
            if machine is not None:
                lane.close(machine.close)
            raise
        self._lane_of[log.group] = lane

    def _machine(self, log: RecoveredLog) -> StateMachine:
        return WitnessMachine(log.compacted) if log.witness else self._machines(log.group)

    def _run(self, log: RecoveredLog, machine: StateMachine, position: SnapshotMeta, lane: Lane) -> None:
        known = configurations(log, position.index)
        core = Node(
            group=log.group,
            replica=log.replica,
            options=self._around.options.node_options(),
            rng=self._rng,
            hard_state=log.hard_state,
            snapshot=log.compacted,
            entries=log.entries,
            applied=position.index,
            applied_configuration=known[-1][1],
            tail_doubt=log.doubt is Doubt.TAIL,
            witness=log.witness,
            clock=self._around.clock,
        )
        applier = Applier(
            log.group,
            machine,
            lane,
            open_machines=self._open_machines,
            applied=position.index,
            entries_max=self._around.options.apply_entries_max,
            bytes_max=self._around.options.apply_bytes_max,
            clock=self._around.clock,
            on_applied=lambda entries, results: self._applied(log.group, entries, results),
            on_failed=lambda error: self._around.fail(log.group, error),
        )
        self._engine.broken.pop(log.group, None)
        self._engine.replicas[log.group] = Replica(
            group=log.group,
            replica=log.replica,
            core=core,
            applier=applier,
            leadership=self._leadership(log.group),
            configurations=known,
            around=self._around,
        )
        self._around.stir(log.group)

    def _applied(self, group: GroupId, entries: Sequence[Entry], results: Sequence[object]) -> None:
        replica = self._engine.replicas.get(group)
        if replica is not None:
            replica.on_applied(entries, results)

    async def _forget(self, group: GroupId) -> None:
        """The log first: what a crash leaves of the machine is discarded when a replica is made again."""
        replica = self._engine.replicas.pop(group, None)
        self._engine.broken.pop(group, None)
        if replica is not None:
            self._engine.close_replica(replica, stopped(group))
            await replica.applier.closed()
        self._around.persister.forget(group)
        await self._around.log.drop(group)
        await self._lanes.run(partial(self._discard_machine, group))

    def _in_use(self, replica: Replica) -> bool:
        """It leads, or heard a leader not long ago; or it holds something and has not run long enough to tell."""
        options = self._around.options
        patience = 4 * options.election_ticks * options.tick_ms / 1000
        since = self._around.clock.monotonic() - patience
        waiting = replica.began > since and replica.core.status().last > 0
        return replica.dormant or replica.soft.role is Role.LEADER or replica.heard_leader > since or waiting

    def _turn(self, group: GroupId) -> asyncio.Lock:
        return self._turns.setdefault(group, asyncio.Lock())


def _reset_log(write: LogWrite) -> RecoveredLog:
    """What a log holds right after it was emptied to a position."""
    return RecoveredLog(
        group=write.group,
        replica=write.replica,
        hard_state=write.hard_state or EMPTY_HARD_STATE,
        compacted=write.reset or EMPTY_SNAPSHOT,
        entries=(),
        doubt=Doubt.NONE,
        witness=False,
    )


def first_entry(configuration: Configuration) -> Entry:
    """How a group begins: the same entry on all its first voters, in a term nobody led. Being an entry, it also gives
    the state machine and every later learner the configuration.
    """
    return Entry(
        index=LogIndex(1),
        term=FIRST_TERM,
        kind=EntryKind.CONFIGURATION,
        stamp=Stamp(1),
        payload=encode_configuration(configuration),
    )
