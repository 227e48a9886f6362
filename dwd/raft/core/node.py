"""One replica of one group: the thin surface over the rules, one per module of this package.

Who calls: the host's one loop, never two calls at once. Nothing here blocks, and nothing is done until the effects
are taken: after any call, while `has_effects()`, take them and follow the duties stated at `Effects`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dwd.base.clock import Clock, Rng
from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.raft.core import (
    commit,
    configure,
    elect,
    gather,
    propose,
    quiet,
    replicate,
    snapshot,
    step,
    tick,
    transfer,
)
from dwd.raft.core import read as reading
from dwd.raft.core.describe import describe
from dwd.raft.core.effects import Effects
from dwd.raft.core.elect import reset_patience
from dwd.raft.core.invariants import check
from dwd.raft.core.messages import Message
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.state import start
from dwd.raft.core.status import NodeStatus
from dwd.raft.core.types import (
    NO_REPLICA,
    Configuration,
    ConfigurationChange,
    Entry,
    HardState,
    JointChange,
    ProposalId,
    ReadId,
    Role,
    SnapshotMeta,
    WriteId,
)  # fmt: skip


class Node:
    __slots__ = ("_state",)

    def __init__(
        self, *, group: GroupId, replica: ReplicaId, options: NodeOptions, rng: Rng, hard_state: HardState,
        snapshot: SnapshotMeta, entries: Sequence[Entry], applied: LogIndex, applied_configuration: Configuration,
        tail_doubt: bool, witness: bool = False, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """`snapshot` is the compacted position, `entries` all that the log holds after it. `applied` and
        `applied_configuration` are the state machine's; it must lie within [snapshot.index, last entry]: a database
        ahead of its log resets the log to its own position first (raft.md section 3). A new group starts everywhere
        with the same `snapshot`: index 0, term 0 and the first configuration; a replica that is to be added as a
        learner starts with EMPTY_SNAPSHOT. Raises InvariantViolation when these contradict each other. `clock` is
        needed for `options.lease_reads` and for nothing else.
        """
        self._state = start(
            group=group, replica=replica, options=options, rng=rng, hard_state=hard_state, snapshot=snapshot,
            entries=entries, applied=applied, applied_configuration=applied_configuration, tail_doubt=tail_doubt,
            witness=witness, clock=clock,
        )  # fmt: skip
        reset_patience(self._state)

    def step(self, message: Message) -> None:
        """Take a message from a peer. One that is stale, misdirected or from a stranger is dropped."""
        step.step(self._state, message)
        check(self._state)

    def tick(self, *, hindered: bool = False, missed: int = 0) -> None:
        """`options.tick_ms` have passed. After a pause of this process call it once, and tell how many were `missed`:
        they do not count for a follower's patience, but for a leader's contact with the others they do.
        `hindered`: this node cannot write its log or its state for now (a full disk). It leads no longer than others
        can do without it, and stands late.
        """
        tick.tick(self._state, hindered=hindered, missed=missed)
        check(self._state)

    def propose(self, items: Sequence[tuple[ProposalId, bytes]], *, unix_ms: int) -> None:
        """Append commands; each id appears in the next effects' `accepted` or `refused` (NotLeader, Busy)."""
        propose.propose(self._state, items, unix_ms=unix_ms)
        check(self._state)

    def propose_configuration(
        self, proposal: ProposalId, change: ConfigurationChange | JointChange, *, unix_ms: int
    ) -> None:
        """As `propose`; refused with Conflict while a change is in flight, SafetyRefused when it endangers the quorum,
        InvalidArgument / NotFound / AlreadyExists when it makes no sense. The entry's payload is the whole new
        configuration: `configuration_codec.decode_configuration`.
        """
        configure.propose_configuration(self._state, proposal, change, unix_ms=unix_ms)
        check(self._state)

    def read_index(self, read: ReadId) -> None:
        """Ask for the index at which a linearizable read may be answered; any role. Every read ends in `reads` or
        `reads_refused` (NotLeader, Busy, Unavailable) within an election timeout of ticks.
        """
        reading.read_index(self._state, read)
        check(self._state)

    def transfer_leadership(self, target: ReplicaId) -> None:
        """On the leader: bring `target` up to date and have it take over; given up after the shortest election
        timeout, and `transferring` is 0 again. To this replica itself: give up now. Raises NotLeader, NotFound,
        Conflict (another one is under way), SafetyRefused (it cannot lead, or is out of reach).
        """
        transfer.begin(self._state, target)
        check(self._state)

    @property
    def transferring(self) -> ReplicaId:
        """To whom leadership is being handed: nothing is taken meanwhile. 0 mostly."""
        return NO_REPLICA if self._state.transfer is None else self._state.transfer.target

    def allow_leading(self, *, allowed: bool) -> None:
        """Whether this replica may stand for election and lead. One that may not still votes and acknowledges; hand
        leadership over first: a leader told so steps down at once. May be called on every tick.
        """
        if allowed != self._state.may_lead:
            elect.allow_leading(self._state, allowed=allowed)
            if not allowed and self._state.role is Role.LEADER:
                transfer.resign(self._state)
            check(self._state)

    def report_unreachable(self, replica: ReplicaId) -> None:
        """The stream to or from `replica` broke. A leader probes it; a follower whose leader it is stops waiting."""
        elect.report_unreachable(self._state, replica)
        check(self._state)

    def report_snapshot(self, replica: ReplicaId, *, ok: bool) -> None:
        """On the leader: the peer took the offered snapshot whole, or the transfer ended."""
        snapshot.reported(self._state, replica, ok=ok)
        check(self._state)

    def fetched(self, target: ReplicaId, entries: Sequence[Entry]) -> None:
        """The answer to `Effects.fetches`, from its `first` on, as far as `bytes_max` goes. Empty: the log no longer
        has them, or could not be read: the peer gets a snapshot.
        """
        replicate.fetched(self._state, target, entries)
        check(self._state)

    def snapshot_fetched(self, meta: SnapshotMeta) -> None:
        """The file of `Effects.offer` is here, whole and verified; `meta` is its own position. If it is still wanted,
        the next effects carry it as `snapshot`, else nothing happens and the shell drops the file.
        """
        snapshot.fetched(self._state, meta)
        check(self._state)

    def machine_replaces(self, meta: SnapshotMeta) -> bool:
        """Whether a state machine at `meta` may take the place of the present one without touching the log: its
        position is at or after what is applied, and durable in this very log.
        """
        return snapshot.replaces(self._state, meta)

    def machine_replaced(self, meta: SnapshotMeta) -> tuple[tuple[LogIndex, Configuration], ...]:
        """It has: entries up to `meta.index` need not be applied any more; those already handed out that follow must.
        Returns the configurations among what is skipped. Raises InvariantViolation unless `machine_replaces`.
        """
        skipped = snapshot.replaced(self._state, meta)
        check(self._state)
        return skipped

    def snapshot_abandoned(self) -> None:
        """Fetching the offer failed; the leader will offer again."""
        self._state.offer = None

    def compacted(self, meta: SnapshotMeta) -> None:
        """The log up to `meta.index` is going away. Never above what is applied."""
        snapshot.compacted(self._state, meta)
        check(self._state)

    def persisted(self, write: WriteId) -> None:
        """All effects up to `write` are durable."""
        gather.persisted(self._state, write)
        check(self._state)

    def applied(self, index: LogIndex) -> None:
        """The state machine has applied everything up to `index`."""
        commit.applied(self._state, index)
        check(self._state)

    def may_rest(self, away: Collection[ReplicaId]) -> bool:
        """On the leader: nothing is under way and everybody but those `away` has applied all of the log."""
        return quiet.may_rest(self._state, away)

    def may_rest_behind(self, leader: ReplicaId, term: Term, index: LogIndex) -> bool:
        """On a follower: it stands exactly there, and nothing is under way."""
        return quiet.may_rest_behind(self._state, leader, term, index)

    def woken(self, *, silent_ticks: int, alive: Collection[ReplicaId]) -> None:
        """`tick` was not called for a while and is again: `dwd.raft.core.quiet`."""
        quiet.woken(self._state, silent_ticks=silent_ticks, alive=alive)

    def forget_entries(self) -> None:
        """Give back the memory of entries that are durable and applied."""
        quiet.forget_entries(self._state)

    def has_effects(self) -> bool:
        return gather.has_effects(self._state)

    def take_effects(self) -> Effects:
        """What has gathered since the last call; see `Effects` for the duties."""
        return gather.take_effects(self._state)

    def status(self) -> NodeStatus:
        return describe(self._state)
