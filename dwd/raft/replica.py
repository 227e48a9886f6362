"""One live replica: its core, its state machine, and what callers wait for. Follows the duties stated at `Effects`.

Everything here runs on the event loop, called by the host's loop (`pump`, `receive`, `tick`) or by completions, which
only tell the core and stir the loop. An exception of `guarded` work stops this replica and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog

from dwd.base.errors import Corrupt, InvariantViolation, NoSpace, NotFound, Unavailable
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, hex_id
from dwd.raft.applier import Applier
from dwd.raft.complaints import WRONG_NODE
from dwd.raft.core.configuration_codec import decode_configuration
from dwd.raft.core.effects import Effects, Fetch, SoftState
from dwd.raft.core.messages import ReadRequest
from dwd.raft.core.node import Node
from dwd.raft.core.types import NO_REPLICA, Configuration, Entry, EntryKind, Role, SnapshotMeta
from dwd.raft.handover import Handover
from dwd.raft.installs import Installs
from dwd.raft.joint_waits import JointWaits
from dwd.raft.leadership import NO_NODE, Leadership
from dwd.raft.ports import LogWrite
from dwd.raft.proposals import Proposal, Proposals
from dwd.raft.reads import Reads
from dwd.raft.routes import Routes
from dwd.raft.surroundings import Surroundings
from dwd.raft.telemetry import LEADER_CHANGES, PROPOSALS, RESEEDED
from dwd.raft.transport import Absence, Absent, Beat, Nap, NapReply, Pace, Parcel

_log = structlog.get_logger("dwd.raft")


class Replica:
    """`applier` and `leadership` are given in; `configurations` lists (index, configuration) in force from there on,
    from the log's compacted position up to what is applied.
    """

    def __init__(
        self,
        *,
        group: GroupId,
        replica: ReplicaId,
        core: Node,
        applier: Applier,
        leadership: Leadership,
        configurations: list[tuple[LogIndex, Configuration]],
        around: Surroundings,
    ) -> None:
        options = around.options
        self.group = group
        self.id = replica
        self.core = core
        self.applier = applier
        self.configurations = configurations
        self.soft = SoftState(role=Role.FOLLOWER, leader=ReplicaId(0), term=core.status().term)
        self.leadership = leadership
        self.handover = Handover(group)
        self.joint_waits = JointWaits()
        self.proposals = Proposals(group, options.proposals_max)
        self.reads = Reads(
            group,
            limit=options.reads_max,
            boot=around.boot,
            round_seconds=options.tick_ms * options.election_ticks / 1000,
        )
        self.quarantined: str | None = applier.machine.quarantined()
        """Why the state here is not to be trusted; see `dwd.raft.quarantine`."""
        self.alarm: str | None = None
        self.absent: dict[ReplicaId, Absence] = {}
        """Replicas whose node said that it cannot speak for them, until they speak."""
        self.began = around.clock.monotonic()
        self.heard_leader = float("-inf")
        self.closed = False
        self.dormant = False
        """It rests, or asks others to: it is not ticked."""
        self.used_at = self.began
        """When anybody last wanted anything of it."""
        self._routes = Routes(group, around.transport)
        self._around = around
        self.installs = Installs(self, around)
        self.witness = core.status().witness
        self._nodes: dict[ReplicaId, NodeId] = {}
        """Where the members live, by the configuration in force."""
        self._unpersisted = 0
        self.refresh_routes()

    # -- what the loop calls ------------------------------------------------------------------------------------

    def receive(self, node: NodeId, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            if self._nodes.get(parcel.source, node) != node:
                self._around.complaints.note(WRONG_NODE, group=self.group, source=parcel.source, node=node)
            elif parcel.target != self.id:
                self._routes.refuse(node, parcel)
            elif isinstance(parcel, Absent):
                self._note_absence(parcel)
            elif isinstance(parcel, Nap | NapReply):
                self._around.nap(self, node, parcel)
            elif not isinstance(parcel, Beat | Pace):
                self._routes.heard(parcel.source, node)
                if self.absent:
                    self.absent.pop(parcel.source, None)
                if parcel.source == self.soft.leader:
                    self.heard_leader = self._around.clock.monotonic()
                if isinstance(parcel, ReadRequest):
                    self.used()
                self.core.step(parcel)

    def waits(self) -> bool:
        """Somebody waits for something of it."""
        return bool(
            self.reads.waiting() or self.proposals.waiting() or self.core.has_effects()
            or self._unpersisted or self.installs.under_way or self.quarantined is not None
        )  # fmt: skip

    def used(self) -> None:
        """Somebody wanted something: it does not rest for a while."""
        self.used_at = self._around.clock.monotonic()

    def tick(self, now: float, missed: int) -> None:
        self.heed_clock(now)
        if self.quarantined is not None:
            self.installs.ask_for_state()
        slow = self._around.pace.slow and self.soft.role is not Role.LEADER
        self.core.tick(hindered=slow or self._hindrance() is not None, missed=missed)
        self.proposals.overdue(now)
        self.handover.tick(now, self.core)
        self.joint_waits.overdue(now)
        self.reads.overdue(now)

    def pump(self) -> None:
        """Hand the core what waits for it and perform its effects, until there is neither."""
        while True:
            if self.proposals.waiting():
                hindrance = self._hindrance()
                if hindrance is not None:
                    self.proposals.refuse_waiting(hindrance)
                elif (
                    self.core.transferring == NO_REPLICA
                    and self.proposals.round_due()
                    and self._around.persister.admits(self.group)
                ):
                    self._propose(self.proposals.hand_over(self._around.options.propose_batch_max))
            if self.reads.waiting():
                self.used()
                self._begin_reads()
            if not self.core.has_effects():
                return
            self._perform(self.core.take_effects())

    def _begin_reads(self) -> None:
        """Hand the core this node's reads. They gather by themselves: while a round is out the rest waits."""
        read = self.reads.begin_round(self._around.clock.monotonic())
        if read is not None:
            self.core.read_index(read)

    def node_unreachable(self, node: NodeId) -> None:
        for member in self.core.status().configuration.members:
            if member.replica != self.id and self._routes.leads_to(member, node):
                self.core.report_unreachable(member.replica)

    def node_of(self, replica: ReplicaId) -> NodeId:
        return self._routes.node_of(replica)

    # -- effects ------------------------------------------------------------------------------------------------

    def _perform(self, effects: Effects) -> None:
        if effects.messages_now:
            self._routes.send(effects.messages_now)
        if not self.installs.takes(effects):
            self.persist(effects)
        self._answer(effects)
        for fetch in effects.fetches:
            self._around.spawn(self.group, self._fetch(fetch), name="fetch")
        if effects.offer is not None:
            self._around.fetch_snapshot(self.group, effects.offer)

    def _answer(self, effects: Effects) -> None:
        """What callers are told. Acceptances before a loss of leadership, which turns them into unknown outcomes."""
        if effects.accepted:
            self.proposals.accepted(effects.accepted)
        if effects.refused:
            self.proposals.refused(effects.refused)
        if effects.soft_state is not None:
            self._soft_state(effects.soft_state)
        if effects.reads:
            self.reads.ready(effects.reads, self.applier.applied)
            if self.reads.await_applying():
                self.applier.hurry()
        if effects.reads_refused:
            self.reads.refused(effects.reads_refused)
        for drop in effects.dropped:
            self._around.complaints.note(
                drop.refusal, group=self.group, source=drop.source, node=self.node_of(drop.source), count=drop.count
            )

    def persist(self, effects: Effects) -> None:
        """Duties 2 to 4 of effects whose snapshot, if any, is installed."""
        if effects.must_persist() or effects.tail_confirmed:
            write = LogWrite(
                group=self.group,
                replica=self.id,
                hard_state=effects.hard_state,
                entries=effects.entries,
                reset=effects.snapshot,
                tail_confirmed=effects.tail_confirmed,
            )
            self._unpersisted += 1
            self._around.persister.queue(write, partial(self._durable, effects))
            if any(entry.kind is EntryKind.CONFIGURATION for entry in effects.entries):
                self.refresh_routes()
        elif self._unpersisted:
            if effects.messages_durable:
                self._unpersisted += 1
                self._around.persister.queue(None, partial(self._durable, effects))
        else:
            self.core.persisted(effects.write)
            if effects.messages_durable:
                self._routes.send(effects.messages_durable)
        if effects.committed:
            self.proposals.committed(effects.committed[-1].index)
            soon = self.soft.role is Role.LEADER or self.reads.await_applying()
            self.applier.add(effects.committed, soon=soon)

    def _durable(self, effects: Effects) -> None:
        self._unpersisted -= 1
        if self.closed:
            return
        if effects.messages_durable:
            self._routes.send(effects.messages_durable)
        try:
            self.core.persisted(effects.write)
        except (InvariantViolation, Corrupt) as error:
            self._around.fail(self.group, error)
        else:
            self._around.stir(self.group)

    def end_quarantine(self) -> None:
        """A snapshot has replaced the state."""
        if self.quarantined is not None:
            RESEEDED.add(1, group=self.group)
            _log.warning("replica is re-seeded and out of quarantine", **self.names(), reason=self.quarantined)
            self.quarantined = None
            self.core.allow_leading(allowed=True)

    def begin_quarantine(self, reason: str) -> None:
        """The machine has noted it. Whoever reads here is sent elsewhere; nothing more is applied."""
        self.quarantined = reason
        self.applier.halt()
        self.reads.close(quarantined(self.group))
        self.core.allow_leading(allowed=False)
        self._around.stir(self.group)

    async def _fetch(self, fetch: Fetch) -> None:
        try:
            entries = await self._around.log.read(self.group, fetch.first, fetch.last, fetch.bytes_max)
        except NotFound:
            entries = ()
        if not self.closed:
            self.core.fetched(fetch.target, entries)
            self._around.stir(self.group)

    def _soft_state(self, soft: SoftState) -> None:
        led = self.soft.role is Role.LEADER
        self.soft = soft
        if led and soft.role is not Role.LEADER:
            self.proposals.lost_leadership()
            self.absent.clear()
        if soft.role is Role.LEADER:
            self.applier.hurry()
        self._publish_leader()

    def _publish_leader(self) -> None:
        node = self.node_of(self.soft.leader)
        if node != NO_NODE and self.soft.role is not Role.LEADER:
            self.handover.leads(node)
        if self.leadership.changed(node, self.soft.term):
            LEADER_CHANGES.add(1, group=self.group)
            _log.info("leadership changed", **self.names(), leader_node=hex_id(node), role=self.soft.role.name.lower())

    # -- callers and completions --------------------------------------------------------------------------------

    def _propose(self, proposals: list[Proposal]) -> None:
        self.used()
        unix_ms = self._around.guard.unix_ms()
        commands = [(proposal.id, proposal.wish) for proposal in proposals if isinstance(proposal.wish, bytes)]
        if commands:
            PROPOSALS.add(len(commands), group=self.group)
            self.core.propose(commands, unix_ms=unix_ms)
        for proposal in proposals:
            if not isinstance(proposal.wish, bytes):
                self.core.propose_configuration(proposal.id, proposal.wish, unix_ms=unix_ms)

    def heed_clock(self, now: float) -> None:
        """A wrong clock keeps this replica from leading, unless nobody else could; a quarantine does in any case."""
        _, configuration = self.configurations[-1]
        leads = self.soft.role is Role.LEADER
        unfit = self._around.guard.bars(now, leads=leads) or (self._around.departing() and not leads)
        barred = unfit and len(configuration.voters()) > 1
        self.core.allow_leading(allowed=self.quarantined is None and not barred)

    def _hindrance(self) -> NoSpace | None:
        """What keeps this replica from writing its log or its state."""
        return self._around.persister.refusal or self.applier.refusal

    def on_applied(self, entries: Sequence[Entry], results: Sequence[object]) -> None:
        """The machine applied `entries`."""
        for at, entry in enumerate(entries):
            if entry.kind is EntryKind.CONFIGURATION:
                configuration = decode_configuration(entry.payload)
                self.configurations.append((entry.index, configuration))
                results = [*results[:at], configuration, *results[at + 1 :]]
                self._forget_strangers(configuration)
                self.joint_waits.applied(configuration)
        self.proposals.applied(entries, results)
        self.reads.applied(self.applier.applied)
        try:
            self.core.applied(entries[-1].index)
        except (InvariantViolation, Corrupt) as error:
            self._around.fail(self.group, error)
        else:
            self._around.stir(self.group)

    def configurations_from(self) -> LogIndex:
        """The log's compacted position."""
        return self.configurations[0][0]

    def compacted(self, position: SnapshotMeta) -> None:
        """The log is about to be cut there."""
        self.core.compacted(position)
        later = [known for known in self.configurations if known[0] > position.index]
        self.configurations[:] = [(position.index, position.configuration), *later]
        self._around.stir(self.group)

    def snapshot_fetched(self, meta: SnapshotMeta, path: Path) -> None:
        """The offer's file is here. It is consumed, or deleted if it is no longer wanted."""
        self.installs.fetched(meta, path)

    def snapshot_abandoned(self) -> None:
        self.core.snapshot_abandoned()
        self._around.stir(self.group)

    def snapshot_sent(self, target: ReplicaId, *, ok: bool) -> None:
        self.core.report_snapshot(target, ok=ok)
        self._around.stir(self.group)

    def names(self) -> dict[str, int]:
        """For log lines, which name this node anyway."""
        return {"group": self.group, "replica": self.id, "term": self.soft.term}

    # -- the way to peers ---------------------------------------------------------------------------------------

    def _note_absence(self, absent: Absent) -> None:
        if self.soft.role is Role.LEADER and absent.source not in self.absent:
            _log.warning("replica is missing", **self.names(), missing=absent.source, reason=absent.reason.name.lower())
        self.absent[absent.source] = absent.reason
        self.core.report_unreachable(absent.source)

    def refresh_routes(self) -> None:
        configuration = self.core.status().configuration
        self._nodes = {member.replica: member.node for member in configuration.members}
        self._routes.follow(configuration)
        self._publish_leader()

    def _forget_strangers(self, configuration: Configuration) -> None:
        members = {member.replica for member in configuration.members}
        self.absent = {replica: reason for replica, reason in self.absent.items() if replica in members}


def quarantined(group: GroupId) -> Unavailable:
    return Unavailable("raft.quarantined", "this node's copy of the group is not trusted; ask another", group=group)
