"""Everything one replica knows, in one mutable object that the rules of this package work on.

The rules are functions over it, one module a message or decision; it only keeps its own parts in step with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dwd.base.clock import Clock, Rng
from dwd.base.errors import InvariantViolation, NotLeader
from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.raft.core.configurations import Configurations
from dwd.raft.core.log_view import LogView
from dwd.raft.core.messages import Message, SnapshotOffer, VoteReply
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.outbox import Outbox
from dwd.raft.core.progress import Progress
from dwd.raft.core.reads import LeaderReads, PeerReads
from dwd.raft.core.types import (
    NO_REPLICA,
    ZERO_INDEX,
    ZERO_TERM,
    Configuration,
    Entry,
    HardState,
    ReadId,
    Role,
    SnapshotMeta,
)


@dataclass(slots=True)
class TailDoubt:
    """Kept while the log may lack what this replica acknowledged; see `doubt.py`."""

    voted_term: Term = ZERO_TERM
    """The last term in which a vote was granted for the first time since this start."""
    request: ReadId | None = None
    """The confirmation under way."""
    request_ticks: int = 0
    confirm_at: LogIndex | None = None
    """A leader of the present term vouched: the doubt ends once its log is matched up to here."""


@dataclass(slots=True)
class Transfer:
    """Of a leader: leadership is being handed to `target`; see `transfer.py`."""

    target: ReplicaId
    ticks: int = 0
    asked: bool = False
    """It was told to stand."""


@dataclass(slots=True)
class Timers:
    """In ticks."""

    election: int = 0
    patience: int = 0
    heartbeat: int = 0
    hurry: int = 0
    """While positive the leader is known to be gone: no stickiness, short patience."""
    gone: ReplicaId = NO_REPLICA
    """The leader that was lost last: it is not waited for."""
    quiet: int = 0
    """While positive this replica may have made a promise before it started: it votes for nobody (`lease.py`)."""


@dataclass(slots=True, kw_only=True)
class State:
    group: GroupId
    replica: ReplicaId
    options: NodeOptions
    rng: Rng
    log: LogView
    configurations: Configurations
    term: Term
    vote: ReplicaId
    commit: LogIndex
    applied: LogIndex
    handed: LogIndex
    """The last index handed out for applying."""
    doubt: TailDoubt | None
    witness: bool = False
    """It has no state machine (`witness.py`)."""
    needed: bool = False
    """Of a witness: a data voter cannot be elected without what this log has."""
    held: LogIndex = ZERO_INDEX
    """Of a witness: enough data voters hold everything up to here, as the leader last said."""
    clock: Clock | None = None
    """Read for leases alone."""
    role: Role = Role.FOLLOWER
    may_lead: bool = True
    """The shell says no while this replica's state or clock cannot be trusted; its vote counts all the same."""
    leader: ReplicaId = NO_REPLICA
    verified: LogIndex = ZERO_INDEX
    """A follower's log equals its present leader's up to here, as far as it knows."""
    handed_bytes: int = 0
    handed_sizes: list[tuple[LogIndex, int]] = field(default_factory=list)
    timers: Timers = field(default_factory=Timers)
    outbox: Outbox = field(default_factory=Outbox)
    votes: dict[ReplicaId, VoteReply] = field(default_factory=dict)
    sworn: frozenset[ReplicaId] = frozenset()
    """Of a leader: doubtful replicas whose votes it won with."""
    progress: dict[ReplicaId, Progress] = field(default_factory=dict)
    """Of a leader: every other member."""
    term_start: LogIndex = ZERO_INDEX
    """Of a leader: its no-op; nothing is read and no configuration changed before that is committed."""
    uncommitted_bytes: int = 0
    feed: bool = False
    """Of a leader: peers may have something to be sent."""
    leader_reads: LeaderReads = field(default_factory=LeaderReads)
    transfer: Transfer | None = None
    transfer_rest: int = 0
    """Ticks until this leader may hand over on its own initiative."""
    lease_barred: bool = False
    """Somebody was asked to stand in this term: no lease of it holds any more."""
    hindered: bool = False
    """This node could not write at the last tick."""
    offer: SnapshotOffer | None = None
    """The snapshot that the shell is fetching."""
    peer_reads: PeerReads = field(default_factory=PeerReads)
    checked_configuration: LogIndex | None = None
    checked_commit: LogIndex = ZERO_INDEX
    checked_term: Term = ZERO_TERM

    @property
    def configuration(self) -> Configuration:
        return self.configurations.current

    def send(self, message: Message) -> None:
        """Send as soon as the term it speaks for is durable, which it mostly is already."""
        if self.outbox.durable_term >= self.term:
            self.outbox.now.append(message)
        else:
            self.outbox.durable.append(message)

    def send_durable(self, message: Message) -> None:
        """Send once all that was decided up to now is durable."""
        self.outbox.durable.append(message)

    def set_term(self, term: Term, vote: ReplicaId) -> None:
        if term < self.term:
            raise InvariantViolation("the term would fall", term=self.term, to=term)
        if (term, vote) != (self.term, self.vote):
            self.outbox.hard_state_changed = True
        self.term, self.vote = term, vote

    def commit_to(self, index: int) -> None:
        """Everything up to `index` is committed."""
        if index <= self.commit:
            return
        if index > self.log.last_index:
            raise InvariantViolation(
                "committed entries are not in this log: it lost what it had acknowledged",
                commit=index, last=self.log.last_index,
            )  # fmt: skip
        self.commit = LogIndex(index)

    def append(self, entries: Sequence[Entry]) -> None:
        """Put entries at the end; configurations among them are in force at once (thesis 4.1)."""
        self.log.append(entries)
        self.configurations.note(entries)

    def truncate_after(self, index: int) -> None:
        """Drop a conflicting tail, and the configurations in it (thesis 4.1)."""
        if index < self.commit:
            raise InvariantViolation("a committed entry would be replaced", commit=self.commit, after=index)
        if self.role is Role.LEADER:
            raise InvariantViolation("a leader would cut its own log", after=index)
        self.log.truncate_after(index)
        self.outbox.clip_writes(index)
        self.configurations.truncate_after(index)
        self.verified = LogIndex(min(self.verified, index))

    def not_leader(self) -> NotLeader:
        member = self.configuration.find(self.leader)
        known = f"replica {self.leader:x} does" if member else "who does is not known"
        return NotLeader(
            "raft.not_leader",
            f"this replica does not lead group {self.group}; {known}",
            leader_node=member.node if member else 0,
            group=self.group,
        )

    def hard_state(self) -> HardState:
        return HardState(term=self.term, vote=self.vote, commit=self.commit)


def start(
    *, group: GroupId, replica: ReplicaId, options: NodeOptions, rng: Rng, hard_state: HardState,
    snapshot: SnapshotMeta, entries: Sequence[Entry], applied: LogIndex, applied_configuration: Configuration,
    tail_doubt: bool, witness: bool, clock: Clock | None,
) -> State:  # fmt: skip
    """A replica as it comes back from what is durable. Raises InvariantViolation when that contradicts itself."""
    log = LogView(snapshot, entries)
    if not snapshot.index <= applied <= log.last_index:
        raise InvariantViolation(
            "the state machine is outside its log",
            applied=applied, compacted=snapshot.index, last=log.last_index,
        )  # fmt: skip
    configurations = Configurations(applied, applied_configuration)
    configurations.note([entry for entry in entries if entry.index > applied])
    commit = LogIndex(max(applied, min(hard_state.commit, log.last_index)))
    if log.last_term > hard_state.term and not tail_doubt:
        raise InvariantViolation("the log is of a later term than the hard state", term=hard_state.term)
    lost_term = log.last_term > hard_state.term
    state = State(
        group=group, replica=replica, options=options, rng=rng, log=log, configurations=configurations,
        term=log.last_term if lost_term else hard_state.term, vote=NO_REPLICA if lost_term else hard_state.vote,
        commit=commit, applied=applied, handed=applied, doubt=TailDoubt() if tail_doubt else None,
        checked_commit=commit, witness=witness, clock=clock,
    )  # fmt: skip
    state.timers.quiet = options.election_ticks_min if options.lease_reads else 0
    state.outbox.durable_term = hard_state.term
    state.outbox.hard_state_changed = lost_term
    state.outbox.written_commit = hard_state.commit
    return state
