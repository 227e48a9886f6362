"""What replicas of one group say to each other. Every message names sender, receiver and the sender's term.

Source: Ongaro & Ousterhout 2014, figure 2 (votes, appends); thesis 9.6 (pre-vote), 6.4 (ReadIndex), 3.10 (transfer).
"""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.ids import LogIndex, ReplicaId, Term
from dwd.raft.core.types import ZERO_INDEX, Entry, ReadId, SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRequest:
    """`pre` asks whether a vote would be granted and changes nothing; its `term` is the term to be stood for."""

    source: ReplicaId
    target: ReplicaId
    term: Term
    pre: bool
    last_index: LogIndex
    last_term: Term
    transfer: bool = False
    """The leader itself asked the candidate to stand (TimeoutNow): nobody need be loyal to it (thesis 4.2.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteReply:
    source: ReplicaId
    target: ReplicaId
    term: Term
    pre: bool
    granted: bool
    doubtful: bool = False
    """The voter's log lost its tail and may lack what it acknowledged: see `doubt.py` for how such a vote counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    source: ReplicaId
    target: ReplicaId
    term: Term
    previous_index: LogIndex
    previous_term: Term
    entries: tuple[Entry, ...]
    commit: LogIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendReply:
    """`match` is the last index known durable and equal. Refused: `hint_index`/`hint_term` name the follower's
    last entry at or before the conflict, so that a whole term is skipped at a time.
    """

    source: ReplicaId
    target: ReplicaId
    term: Term
    accepted: bool
    match: LogIndex
    hint_index: LogIndex
    hint_term: Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """`commit` never exceeds what the target is known to match. `round` numbers leadership confirmations."""

    source: ReplicaId
    target: ReplicaId
    term: Term
    commit: LogIndex
    round: int
    held: LogIndex = ZERO_INDEX
    """To a witness: enough data voters hold everything up to here, it may forget it (`witness.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatReply:
    source: ReplicaId
    target: ReplicaId
    term: Term
    round: int
    reluctant: bool = False
    """The sender cannot write well for now and should not be made leader."""
    lease: bool = False
    """The sender will vote for nobody else within the shortest election timeout (`lease.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """A follower or learner asks its leader for a read index; many local reads share one request."""

    source: ReplicaId
    target: ReplicaId
    term: Term
    read: ReadId
    doubtful: bool = False
    """The sender lost its log's tail: the answer is the leader's last index, and what it acknowledged is void."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReply:
    """`index` 0 with `refused`: the leader could not confirm; the reader asks again. `refused` with an index, to a
    doubtful reader only: not confirmed, but the reader's doubtful vote was among those the leader won with.
    """

    source: ReplicaId
    target: ReplicaId
    term: Term
    read: ReadId
    index: LogIndex
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOffer:
    """The target is too far behind for the log; its shell is to fetch this snapshot from the sender's node."""

    source: ReplicaId
    target: ReplicaId
    term: Term
    snapshot: SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutNow:
    """The leader asks a caught-up voter to stand at once (thesis 3.10)."""

    source: ReplicaId
    target: ReplicaId
    term: Term


Message = (
    VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | ReadRequest
    | ReadReply
    | SnapshotOffer
    | TimeoutNow
)
