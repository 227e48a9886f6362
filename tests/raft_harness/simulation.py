"""A whole group under a hostile network and crashing replicas, driven by one seed, with checkers of Raft's promises.

Checked: election safety, log matching, leader completeness, state machine safety (figure 3 of the paper), that
acknowledged writes stay, that reads are linearizable, that stamps rise. At the end everything heals, and the group must
agree and go on: liveness.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from dwd.base.errors import DwError
from dwd.base.ids import LogIndex, NodeId, ReplicaId
from dwd.raft.core.configuration_codec import decode_configuration
from dwd.raft.core.effects import Accepted, Effects, ReadReady
from dwd.raft.core.messages import Message
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.status import NodeStatus
from dwd.raft.core.types import (
    EMPTY_SNAPSHOT,
    ChangeKind,
    Configuration,
    ConfigurationChange,
    EntryKind,
    JointChange,
    Member,
    MemberRole,
    ProposalId,
    ReadId,
    Role,
    SnapshotMeta,
)
from tests.raft_harness.replica import Disk, Machine, Shell
from tests.raft_harness.seeded import SeededRng

MEMBERS_MAX = 7
"""More would be fed more slowly here than a leader writes."""


QUEUE_SOFT_MAX = 50
"""Past this the network is faster, else a large group would have ever more messages under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostility:
    """Chances a step. `rot` takes the last synced write from one crashing replica at a time."""

    propose: float = 0.2
    drop: float = 0.05
    duplicate: float = 0.05
    crash: float = 0.004
    partition: float = 0.01
    heal: float = 0.03
    compact: float = 0.02
    change: float = 0.02
    unreachable: float = 0.01
    power_loss: float = 0.001
    torn: float = 0.3
    rot: float = 0.1
    transfer: float = 0.01
    pause: float = 0
    """Stop a replica, but not its clock, for up to two election timeouts (only with `timed`)."""


CALM = Hostility(
    propose=0.05,
    drop=0,
    duplicate=0,
    crash=0,
    partition=0,
    heal=1,
    compact=0,
    change=0,
    unreachable=0,
    power_loss=0,
    torn=0,
    transfer=0,
)


SMALL = NodeOptions(
    append_entries_max=5, append_bytes_max=700, inflight_messages_max=3, inflight_bytes_max=2000,
    cache_bytes_max=300, apply_bytes_max=2000, caught_up_entries=2, uncommitted_bytes_max=4000,
)  # fmt: skip
"""Bounds that are met all the time."""


@dataclass(slots=True)
class Simulation:
    seed: int
    voters: int = 3
    witnesses: int = 0
    """How many of the voters hold no data."""
    timed: bool = False
    """Ticks follow one time on all replicas, give or take their clocks' drift; else they come at random."""
    hostility: Hostility = field(default_factory=Hostility)
    options: NodeOptions = SMALL
    rng: SeededRng = field(init=False)
    disks: dict[ReplicaId, Disk] = field(default_factory=dict)
    shells: dict[ReplicaId, Shell] = field(default_factory=dict)
    network: list[Message] = field(default_factory=list)
    cut: set[tuple[ReplicaId, ReplicaId]] = field(default_factory=set)
    leaders: dict[int, ReplicaId] = field(default_factory=dict)
    history: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """What was applied at each index by anybody."""
    floor: int = 0
    """The highest index that a client has seen the effect of."""
    reads: dict[ReadId, int] = field(default_factory=dict)
    rotten: ReplicaId | None = None
    last_id: int = 0
    unix_ms: int = 1_000_000
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    due: dict[ReplicaId, float] = field(default_factory=dict)
    drift: dict[ReplicaId, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = SeededRng(self.seed)
        members = tuple(
            Member(
                node=NodeId(i),
                replica=ReplicaId(i),
                priority=1 + i % 2,
                role=MemberRole.WITNESS if i > self.voters - self.witnesses else MemberRole.VOTER,
            )
            for i in range(1, self.voters + 1)
        )
        genesis = replace(EMPTY_SNAPSHOT, configuration=Configuration(members=members))
        for member in members:
            self.disks[member.replica] = Disk(
                base=genesis, machine=Machine(position=genesis), witness=member.role is MemberRole.WITNESS
            )
            self.start(member.replica)

    def monotonic(self) -> float:
        """The clock of every replica: only tick rates drift."""
        return self.seconds

    def new_id(self) -> int:
        self.last_id += 1
        return self.last_id

    # Replicas.

    def start(self, replica: ReplicaId) -> None:
        rng = SeededRng(self.rng.bits(62))
        shell = Shell(replica, self.disks[replica], self.options, rng, self.send, self.observe, self)
        self.drift[replica] = rng.uniform(0.96, 1.04)
        self.due[replica] = self.seconds + rng.uniform(0, 0.1)
        self.shells[replica] = shell
        shell.take()

    def crash(self, replica: ReplicaId, *, rng: SeededRng) -> None:
        """Lose what is not durable. The last write may be torn (it was not synced), or rot although it was."""
        if self.rotten is not None and not self.disks[self.rotten].doubt:
            self.rotten = None
        may_rot = self.may_rot(replica)
        shell = self.shells.pop(replica)
        disk = shell.disk
        self.counts["crash"] += 1
        if rng.chance(self.hostility.torn):
            self.counts["torn"] += 1
            disk.doubt = True
            before = shell.before_last_write
            if rng.chance(self.hostility.rot) and before is not None and may_rot:
                self.counts["rot"] += 1
                self.rotten = replica
                disk.hard_state, disk.base, disk.entries = before.hard_state, before.base, before.entries
                disk.reset_behind_machine()
        self.disks[replica] = disk

    def may_rot(self, replica: ReplicaId) -> bool:
        """One copy at a time, and never where two voters or fewer make a quorum of all, by anybody's configuration:
        nobody could bring it back.
        """
        known = [shell.node.status() for shell in self.shells.values()]
        voters = [s.configuration.voters() for s in known if s.configuration.members] or [()]
        data = [sum(m.role is MemberRole.VOTER for m in half) for half in voters]
        return self.rotten in {None, replica} and min(map(len, voters)) >= 3 and min(data) >= 2

    # Network.

    def send(self, message: Message) -> None:
        if (message.source, message.target) in self.cut or self.rng.chance(self.hostility.drop):
            return
        self.network.append(message)
        if self.rng.chance(self.hostility.duplicate):
            self.network.append(message)

    def deliver(self) -> None:
        """Any message, mostly one of the oldest."""
        window = len(self.network) if self.rng.chance(0.1) else min(4, len(self.network))
        message = self.network.pop(self.rng.below(window))
        shell = self.shells.get(message.target)
        if shell is not None and not self.is_paused(message.target):
            shell.node.step(message)

    def partition(self) -> None:
        ids = sorted(self.disks)
        side = {replica for replica in ids if self.rng.chance(0.5)}
        one_way = self.rng.chance(0.3)
        self.cut = {(a, b) for a in ids for b in ids if (a in side) != (b in side) and (not one_way or a in side)}

    # What happens.

    def step(self) -> None:
        """One event, then whatever any replica may do about it."""
        rng, chances = self.rng, self.hostility
        alive = sorted(self.shells)
        if alive and rng.chance(chances.crash):
            self.crash(rng.choose(alive), rng=rng)
        if rng.chance(chances.power_loss):
            self.counts["power_loss"] += 1
            for replica in sorted(self.shells):
                self.crash(replica, rng=rng)
            self.network.clear()
        if rng.chance(chances.partition):
            self.partition()
        if rng.chance(chances.heal):
            self.cut = set()
        down = sorted(self.disks.keys() - self.shells.keys())
        if down and rng.chance(0.05):
            self.start(rng.choose(down))
        alive = sorted(self.shells)
        if not alive:
            return
        if self.network and rng.chance(0.8):
            for _ in range(1 + len(self.network) // QUEUE_SOFT_MAX):
                self.deliver()
        shell = self.shells[rng.choose(alive)]
        self.unix_ms += rng.below(3)
        if self.timed:
            shell = self.let_time_pass(shell)
        elif rng.chance(0.15):
            shell.node.tick()
        if rng.chance(chances.transfer):
            self.transfer()
        if rng.chance(chances.propose):
            self.propose(shell)
        if rng.chance(0.1):
            self.read(shell)
        if rng.chance(chances.compact):
            shell.checkpoint(compact=rng.chance(0.7))
        if rng.chance(chances.unreachable):
            shell.node.report_unreachable(rng.choose(sorted(self.disks)))
        if rng.chance(chances.change):
            self.change()
        self.work(shell)

    def work(self, shell: Shell) -> None:
        shell.take()
        while self.rng.chance(0.7) and shell.persist():
            shell.take()
        if self.rng.chance(0.6):
            for entry in shell.apply():
                self.applied(shell, entry.index, entry.term, entry.payload)
        if shell.offer is not None and self.rng.chance(0.3):
            shell.fetch_offer(self.shells.get(shell.offer.source))
        shell.take()

    def let_time_pass(self, shell: Shell) -> Shell:
        """Tick who is due; a tick that was missed is not made up for. Who is paused does nothing: another acts."""
        self.seconds += self.rng.uniform(0, 0.004)
        if self.rng.chance(self.hostility.pause):
            self.counts["pause"] += 1
            self.due[shell.replica] = self.seconds + self.rng.uniform(0, 4.0)
        for replica, due in self.due.items():
            if due <= self.seconds and replica in self.shells:
                period = 0.1 * self.drift[replica]
                self.due[replica] = due + period if self.seconds - due < period else self.seconds + period
                self.shells[replica].node.tick()
        awake = [s for r, s in sorted(self.shells.items()) if not self.is_paused(r)]
        return shell if not self.is_paused(shell.replica) or not awake else self.rng.choose(awake)

    def is_paused(self, replica: ReplicaId) -> bool:
        return self.timed and self.due[replica] > self.seconds + 0.2

    def transfer(self) -> None:
        """Ask the leader to hand over to any member."""
        shell = self.leader()
        if shell is not None:
            target = self.rng.choose(shell.node.status().configuration.members).replica
            try:
                shell.node.transfer_leadership(target)
                self.counts["transfer"] += 1
            except DwError:
                self.counts["transfer refused"] += 1

    def propose(self, shell: Shell) -> None:
        items = []
        for _ in range(1 + self.rng.below(4)):
            proposal = ProposalId(self.new_id())
            items.append((proposal, b"%d" % proposal + b"." * self.rng.below(60)))
        shell.node.propose(items, unix_ms=self.unix_ms)

    def read(self, shell: Shell) -> None:
        read = ReadId(self.new_id())
        self.reads[read] = self.floor
        shell.node.read_index(read)
        alone = len(shell.node._state.configurations.voters) == 1
        self.counts["lease read"] += not alone and any(r.read == read for r in shell.node._state.outbox.reads)

    def change(self) -> None:
        """The leader is asked for a change that mostly makes sense, or for several at once."""
        shell = self.leader()
        if shell is None:
            return
        configuration = shell.node.status().configuration
        change: ConfigurationChange | JointChange = self.one_change(configuration)
        if self.rng.chance(0.4):
            change = JointChange(changes=self.many_changes(shell.node.status()))
            self.counts["joint"] += 1
        shell.node.propose_configuration(ProposalId(self.new_id()), change, unix_ms=self.unix_ms)

    def many_changes(self, status: NodeStatus) -> tuple[ConfigurationChange, ...]:
        """Learners and voters change places, as far as the dice go."""
        changes = []
        configuration = status.configuration
        ready = {peer.replica for peer in status.peers if peer.caught_up}
        for member in configuration.members:
            learns = member.role is MemberRole.LEARNER
            if self.rng.chance(0.4) or (learns and member.replica not in ready):
                continue
            kind = ChangeKind.PROMOTE if learns else self.rng.choose((ChangeKind.REMOVE, ChangeKind.DEMOTE))
            if learns or len(configuration.members) > 3 or self.rng.chance(0.2):
                changes.append(ConfigurationChange(kind=kind, member=member))
        if len(configuration.members) < MEMBERS_MAX and self.rng.chance(0.5):
            node = NodeId(self.new_id() + 100)
            learner = self.newcomer(node, witness=False)
            changes.append(ConfigurationChange(kind=ChangeKind.ADD_LEARNER, member=learner))
        return tuple(changes)

    def one_change(self, configuration: Configuration) -> ConfigurationChange:
        members = configuration.members
        learners = [m for m in members if m.role is MemberRole.LEARNER]
        voters = configuration.voters()
        node = NodeId(self.new_id() + 100)
        if learners and self.rng.chance(0.7):
            kind, member = ChangeKind.PROMOTE, learners[0]
        elif self.rng.chance(0.15):
            kind, member = ChangeKind.SET_PRIORITY, replace(self.rng.choose(members), priority=self.rng.below(3))
        elif self.rng.chance(0.1):
            kind, member = ChangeKind.DEMOTE, self.rng.choose(members)
        elif len(voters) > 3 or len(members) >= MEMBERS_MAX or (learners and self.rng.chance(0.3)):
            kind, member = ChangeKind.REMOVE, self.rng.choose(members)
        elif self.witnesses and self.rng.chance(0.3):
            kind, member = ChangeKind.ADD_WITNESS, self.newcomer(node, witness=True)
        elif self.rng.chance(0.5):
            kind, member = ChangeKind.ADD_LEARNER, self.newcomer(node, witness=False)
        else:
            lost = self.rng.choose(members)
            kind = ChangeKind.REPLACE_LOST
            member = self.newcomer(lost.node, witness=lost.role is MemberRole.WITNESS)
        self.counts[kind.name] += 1
        return ConfigurationChange(kind=kind, member=member)

    def newcomer(self, node: NodeId, *, witness: bool) -> Member:
        """A replica that starts from nothing."""
        replica = ReplicaId(self.new_id() + 1000)
        self.disks[replica] = Disk(base=EMPTY_SNAPSHOT, machine=Machine(position=EMPTY_SNAPSHOT), witness=witness)
        self.start(replica)
        return Member(node=node, replica=replica, role=MemberRole.LEARNER, priority=1)

    def leader(self) -> Shell | None:
        """The one of the latest term, if there is any."""
        statuses = [(s.node.status().term, r) for r, s in self.shells.items() if s.node.status().role is Role.LEADER]
        return self.shells[max(statuses)[1]] if statuses else None

    # Checkers.

    def observe(self, shell: Shell, effects: Effects) -> None:
        soft = effects.soft_state
        if soft is not None and soft.role is Role.LEADER:
            known = self.leaders.setdefault(soft.term, shell.replica)
            assert known == shell.replica, f"two leaders in term {soft.term}"
            self.check_completeness(shell)
            self.counts["led"] += 1
            self.counts["witness led"] += shell.disk.witness
        for read in effects.reads:
            self.check_read(read)
        for entry in effects.entries:
            if entry.kind is EntryKind.CONFIGURATION and shell.node.status().role is Role.LEADER:
                self.counts["entered joint"] += decode_configuration(entry.payload).is_joint

    def check_completeness(self, shell: Shell) -> None:
        """A leader's log has every entry that was ever applied (leader completeness)."""
        log = shell.node._state.log
        for index in range(log.base.index + 1, max(self.history, default=0) + 1):
            assert log.term_of(index) == self.history[index][0], f"leader {shell.replica} lacks {index}"

    def check_read(self, read: ReadReady) -> None:
        self.counts["read"] += 1
        assert read.index >= self.reads[read.read], "a read went back in time"
        self.floor = max(self.floor, read.index)

    def applied(self, shell: Shell, index: LogIndex, term: int, payload: bytes) -> None:
        known = self.history.setdefault(index, (term, payload))
        assert known == (term, payload), f"different entries applied at {index}"
        if (index, term) in shell.accepted:
            self.counts["write"] += 1
            self.floor = max(self.floor, index)

    def check_logs(self) -> None:
        """Log matching on what is durable: where two logs agree on a term, they agree on all before it."""
        disks = [self.disks[replica] for replica in sorted(self.disks)]
        for place, one in enumerate(disks):
            for other in disks[place + 1 :]:
                first = max(one.base.index, other.base.index) + 1
                last = min(one.base.index + len(one.entries), other.base.index + len(other.entries))
                agreed = False
                for index in range(last, first - 1, -1):
                    a, b = one.entries[index - one.base.index - 1], other.entries[index - other.base.index - 1]
                    assert not (agreed and a != b), f"logs differ at {index} below an entry they share"
                    agreed = agreed or a.term == b.term

    # Running.

    def run(self, steps: int) -> None:
        for count in range(steps):
            self.step()
            if count % 200 == 0:
                self.check_logs()

    def heal(self, steps: int = 20_000) -> None:
        """Everything comes back; within `steps` the group must have a leader, agree, and take a write."""
        self.hostility = CALM
        self.cut = set()
        for replica in sorted(self.disks.keys() - self.shells.keys()):
            self.start(replica)
        for count in range(steps * (1 + len(self.shells) // 5)):
            self.step()
            if count % 100 == 0 and self.is_settled():
                break
        assert self.is_settled(), [self.describe(shell) for shell in self.shells.values()]
        self.check_logs()

    def is_settled(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        status = leader.node.status()
        if leader.disk.witness or status.configuration.is_joint:
            return False
        members = {m.replica for m in status.configuration.members}
        machines = [self.shells[replica].machine for replica in members]
        top = max(self.history, default=0)
        behind = [m for m in machines if m.position.index < top - 30 or m.position.index < self.floor]
        doubts = [r for r in members if self.shells[r].node.status().tail_doubt]
        return (
            status.commit >= status.last - 30
            and self.counts["write"] > 0
            and self.counts["read"] > 0
            and not behind
            and not doubts
        )

    def describe(self, shell: Shell) -> NodeStatus:
        return shell.node.status()


def machine_digests(simulation: Simulation) -> dict[int, set[int]]:
    """Digests of machines by index: one each if all applied the same."""
    found: dict[int, set[int]] = {}
    for shell in simulation.shells.values():
        if shell.disk.witness:
            continue
        found.setdefault(shell.machine.position.index, set()).add(shell.machine.digest)
    return found


__all__ = ["CALM", "SMALL", "Accepted", "Hostility", "Simulation", "SnapshotMeta", "machine_digests"]
