"""One replica with a disk, a state machine and a shell that can be slow, crash and forget what was not synced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dwd.base.clock import Clock, Rng
from dwd.base.ids import GroupId, LogIndex, ReplicaId
from dwd.raft.core.configuration_codec import decode_configuration
from dwd.raft.core.effects import Accepted, Effects, ReadReady, ReadRefused, Refused
from dwd.raft.core.messages import Message, SnapshotOffer
from dwd.raft.core.node import Node
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.types import EMPTY_HARD_STATE, Entry, EntryKind, HardState, SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A state machine whose whole state is its position and a running hash of what it applied."""

    position: SnapshotMeta
    digest: int = 0

    def apply(self, entry: Entry) -> Machine:
        assert entry.index == self.position.index + 1
        assert entry.stamp > self.position.stamp
        configuration = self.position.configuration
        if entry.kind is EntryKind.CONFIGURATION:
            configuration = decode_configuration(entry.payload)
        position = SnapshotMeta(index=entry.index, term=entry.term, stamp=entry.stamp, configuration=configuration)
        return Machine(position=position, digest=hash((self.digest, entry.index, entry.term, entry.payload)))


@dataclass(slots=True)
class Disk:
    """What is durable: the log's hard state, base and entries, and the machine as of its last checkpoint."""

    base: SnapshotMeta
    machine: Machine
    hard_state: HardState = EMPTY_HARD_STATE
    entries: list[Entry] = field(default_factory=list)
    doubt: bool = False
    witness: bool = False

    def write(self, effects: Effects) -> None:
        if effects.snapshot is not None:
            self.base, self.entries = effects.snapshot, []
        if effects.entries:
            keep = effects.entries[0].index - self.base.index - 1
            assert 0 <= keep <= len(self.entries)
            self.entries[keep:] = effects.entries
        if effects.hard_state is not None:
            self.hard_state = effects.hard_state
        if effects.tail_confirmed:
            self.doubt = False

    def term_of(self, index: int) -> int | None:
        if index == self.base.index:
            return self.base.term
        place = index - self.base.index - 1
        return self.entries[place].term if 0 <= place < len(self.entries) else None

    def read(self, first: int, last: int) -> tuple[Entry, ...]:
        """Entries [first, last], empty when they were compacted."""
        start = first - self.base.index - 1
        return tuple(self.entries[start : last - self.base.index]) if start >= 0 else ()

    def compact(self, meta: SnapshotMeta) -> None:
        del self.entries[: meta.index - self.base.index]
        self.base = meta

    def reset_behind_machine(self) -> None:
        """A database ahead of its log resets the log to its own position (raft.md section 3)."""
        if self.machine.position.index > self.base.index + len(self.entries):
            self.base, self.entries = self.machine.position, []

    def copy(self) -> Disk:
        return replace(self, entries=list(self.entries))


class Shell:
    """Does the duties of `Effects`, one write at a time when told to."""

    def __init__(
        self, replica: ReplicaId, disk: Disk, options: NodeOptions, rng: Rng,
        send: Callable[[Message], None], observe: Callable[[Shell, Effects], None], clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.replica = replica
        self.disk = disk
        self.options = options
        self.rng = rng
        self.send = send
        self.observe = observe
        if disk.witness:
            disk.machine = Machine(position=disk.base)
        self.machine = disk.machine
        self.queue: deque[Effects] = deque()
        self.to_apply: deque[Entry] = deque()
        self.offer: SnapshotOffer | None = None
        self.fetched: dict[LogIndex, Machine] = {}
        self.before_last_write: Disk | None = None
        self.accepted: dict[tuple[int, int], Accepted] = {}
        self.answers: list[Accepted | Refused | ReadReady | ReadRefused] = []
        position = disk.machine.position
        self.node = Node(
            group=GroupId(1), replica=replica, options=options, rng=rng, hard_state=disk.hard_state,
            snapshot=disk.base, entries=tuple(disk.entries), applied=position.index,
            applied_configuration=position.configuration, tail_doubt=disk.doubt,
            witness=disk.witness, clock=clock,
        )  # fmt: skip

    def take(self) -> None:
        """Take all effects there are: send what may leave, queue the writes."""
        while self.node.has_effects():
            effects = self.node.take_effects()
            self.observe(self, effects)
            for message in effects.messages_now:
                self.send(message)
            self.queue.append(effects)
            for accepted in effects.accepted:
                self.accepted[accepted.index, accepted.term] = accepted
            self.answers += [*effects.accepted, *effects.refused, *effects.reads, *effects.reads_refused]
            if effects.offer is not None:
                self.offer = effects.offer
            for fetch in effects.fetches:
                self.node.fetched(fetch.target, self.disk.read(fetch.first, fetch.last))

    def persist(self) -> bool:
        """Make the oldest queued effects durable, and what follows from that. Whether there were any."""
        if not self.queue:
            return False
        effects = self.queue.popleft()
        if effects.must_persist():
            self.before_last_write = self.disk.copy()
        if effects.snapshot is not None:
            self.to_apply.clear()
            if self.disk.witness:
                self.machine = self.disk.machine = Machine(position=effects.snapshot)
            else:
                self.machine = self.disk.machine = self.fetched.pop(effects.snapshot.index)
            self.before_last_write = None
        self.disk.write(effects)
        self.node.persisted(effects.write)
        for message in effects.messages_durable:
            self.send(message)
        self.to_apply.extend(effects.committed)
        return True

    def apply(self) -> list[Entry]:
        """Apply what is handed out."""
        done = list(self.to_apply)
        self.to_apply.clear()
        for entry in done:
            self.machine = self.machine.apply(entry)
        if done:
            self.node.applied(done[-1].index)
        return done

    def checkpoint(self, *, compact: bool) -> None:
        """The machine becomes durable; the log before it may go."""
        if any(effects.snapshot for effects in self.queue):
            return
        if self.disk.witness and self.node.status().held < self.machine.position.index:
            return
        self.disk.machine = self.machine
        if compact and self.machine.position.index > self.disk.base.index:
            self.disk.compact(self.machine.position)
            self.node.compacted(self.machine.position)
            self.before_last_write = None

    def fetch_offer(self, source: Shell | None) -> None:
        """The background fetch ended: with the source's present state, or not at all."""
        offer, self.offer = self.offer, None
        if offer is None:
            return
        if source is None or source.machine.position.index < offer.snapshot.index:
            self.node.snapshot_abandoned()
            return
        assert not source.disk.witness
        self.fetched[source.machine.position.index] = source.machine
        self.node.snapshot_fetched(source.machine.position)
