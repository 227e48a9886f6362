"""What the core asks its shell to do."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.errors import DwError
from dwd.base.ids import LogIndex, ReplicaId, Term
from dwd.raft.core.messages import Message, SnapshotOffer
from dwd.raft.core.plausible import Refusal
from dwd.raft.core.types import Entry, HardState, ProposalId, ReadId, Role, SnapshotMeta, WriteId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReady:
    """The read may be answered once `index` is applied here."""

    read: ReadId
    index: LogIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRefused:
    read: ReadId
    error: DwError


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The proposal stands at `index` in this leader's log of `term`; it commits there or not at all."""

    proposal: ProposalId
    index: LogIndex
    term: Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The proposal is in no log. NotLeader, Busy, or Conflict (a configuration change is in flight)."""

    proposal: ProposalId
    error: DwError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """`target` needs entries that left the core's cache: read them from the log and hand them to `Node.fetched`."""

    target: ReplicaId
    first: LogIndex
    last: LogIndex
    bytes_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """`count` messages of `source` (0: of several) were not looked at."""

    refusal: Refusal
    source: ReplicaId
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftState:
    """For people, routers and timers; never persisted."""

    role: Role
    leader: ReplicaId
    term: Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """One step's worth of duties. This is the only place that states their order:

    1. Send `messages_now` at any time: they carry only terms that are already durable.
    2. Install `snapshot` if there is one (the file fetched for `Node.snapshot_fetched`: the log is emptied to its
       position, the state machine replaced), then append `entries` (an index at or below an earlier one replaces it
       and all after it) and `hard_state`, and make all of it durable in one write.
    3. When that and everything of earlier effects is durable, call `Node.persisted(write)` and send
       `messages_durable`. Effects are made durable in the order they were taken; those without anything to persist
       count as durable as soon as all earlier ones are. One call for the last of several is enough.
    4. Apply `committed` in order, after the install of step 2; then `Node.applied(index)`. They are always durable
       here already, and bounded: no more come while `NodeOptions.apply_bytes_max` are not reported as applied.
    5. Answer `accepted`, `refused`, `reads` (once `index` is applied here), `reads_refused`; serve `fetches`; publish
       `soft_state`; fetch `offer` from its source's node in the background, holding up nothing, and call
       `Node.snapshot_fetched(meta)` once the whole file is here and verified, or `Node.snapshot_abandoned()`.
       A newer `offer` replaces one that is still under way. A witness gets no `offer`, only a `snapshot` that is a
       position without a file.
    6. `tail_confirmed`: the doubt about the log's tail that the node was started with is over; until the shell saw
       this it must keep the doubt across restarts.
    7. Count `dropped`, and log now and then what they were.

    Steps 2-3 of later effects may be queued behind earlier ones; 4 may run beside them.
    Invariant: nothing of a term leaves before that term and vote are durable, vote requests included.
    """

    write: WriteId
    """Numbers the effects of one node from 1 without gaps; the ticket for `Node.persisted`. A position (term, index)
    would not do: a tail can be replaced and come back under a third leader while the first write is under way."""
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta | None = None
    messages_now: tuple[Message, ...] = ()
    messages_durable: tuple[Message, ...] = ()
    committed: tuple[Entry, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    refused: tuple[Refused, ...] = ()
    reads: tuple[ReadReady, ...] = ()
    reads_refused: tuple[ReadRefused, ...] = ()
    fetches: tuple[Fetch, ...] = ()
    offer: SnapshotOffer | None = None
    soft_state: SoftState | None = None
    tail_confirmed: bool = False
    dropped: tuple[Dropped, ...] = ()

    def must_persist(self) -> bool:
        return self.hard_state is not None or bool(self.entries) or self.snapshot is not None
