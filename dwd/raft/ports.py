"""What the host needs from a group's state machine and from the log, as protocols with twins in the tests."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.raft.core.types import Entry, HardState, SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class StateHash:
    """What a machine's state came to right before the entry at `index`, by the definition of that number."""

    index: LogIndex
    definition: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """How far a machine came in recomputing its hash from what is stored."""

    finished: bool
    rows: int
    """Read in this step."""
    found: str | None = None
    """After the last step: what differs from what was recorded, None when all is well."""


class StateMachine(Protocol):
    """One group's replicated state: a SQLite database that knows its own position.

    All methods block; the host calls them from one worker thread a group, never two at once, except `position` and
    `copy_snapshot` (any thread). `apply` must be deterministic: entry, database and active version decide everything.
    """

    def position(self) -> SnapshotMeta:
        """Index, term, stamp and configuration of the last entry applied (after `apply` returned)."""
        ...

    def apply(self, entries: Sequence[Entry]) -> Sequence[object]:
        """Apply all in one transaction, NOOP and CONFIGURATION entries included (they move the position).

        Returns one result an entry, handed to whoever proposed it here. An error a command earned is a result.
        Raises InvariantViolation or Corrupt: the group stops serving on this node.
        """
        ...

    def checkpoint(self) -> LogIndex | None:
        """Make everything applied so far durable in the main database file. Returns the durable index, or None if a
        long reader kept the WAL from being moved whole: then nothing of the log may be cut.
        """
        ...

    def copy_snapshot(self, target: Path) -> SnapshotMeta:
        """Write a complete, consistent copy of the database to `target` at full speed; its position. Beside whatever
        else is done with the machine, which goes on. It need not be durable. Raises NoSpace, StorageFailed, Corrupt.
        """
        ...

    def install_snapshot(self, source: Path, expected: SnapshotMeta) -> None:
        """Verify `source` (integrity, identity, position), make it the live generation durably, reopen.
        The file is consumed. Raises Corrupt, leaving the present generation live. Ends a quarantine.
        """
        ...

    def state_hash(self, index: LogIndex | None = None) -> StateHash | None:
        """What was recorded at the checkpoint of that index, or at the newest; None if nothing is known of it. Any
        thread.
        """
        ...

    def scan(self, rows_max: int) -> Scan:
        """One step of recomputing the hash from the rows, to be compared with the one kept; after the last step the
        next call begins anew. Raises Corrupt.
        """
        ...

    def quarantine(self, reason: str) -> None:
        """Remember durably that this state is not to be trusted, until a snapshot replaces it."""
        ...

    def version(self) -> int:
        """The active version of the group's commands, 0 without a state. Any thread."""
        ...

    def quarantined(self) -> str | None:
        """Why, if it is. Any thread."""
        ...

    def rest(self) -> None:
        """Give back files and memory; the next call has them again."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWrite:
    """One group's part of a durable write. `reset` empties the log to a snapshot's position first. `tail_confirmed`
    ends Doubt.TAIL, which the store keeps across restarts until then, a reset notwithstanding. `witness` on the first
    write of a replica: it is one, for good.
    """

    group: GroupId
    replica: ReplicaId
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    reset: SnapshotMeta | None = None
    tail_confirmed: bool = False
    witness: bool = False


class Doubt(Enum):
    """Whether a recovered log may be missing something this replica acknowledged."""

    NONE = "none"
    TAIL = "tail"
    """A bad final batch was cut: no vote and no acknowledgement until the leader has confirmed the match index."""
    CORRUPT = "corrupt"
    """A bad batch with valid ones after it: the replica is re-seeded under a new id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredLog:
    """What survived of one group on this node."""

    group: GroupId
    replica: ReplicaId
    hard_state: HardState
    compacted: SnapshotMeta
    entries: tuple[Entry, ...]
    doubt: Doubt
    witness: bool = False


class LogStore(Protocol):
    """The node's one log, shared by all groups."""

    def recovered(self) -> Mapping[GroupId, RecoveredLog]:
        """What `open` found, by group, until `release_recovered`. Entries start right after `compacted.index`."""
        ...

    def release_recovered(self) -> None:
        """All of it is running, or known to be broken: the entries need not be held in memory any longer."""
        ...

    def write(self, writes: Sequence[LogWrite]) -> Coroutine[Any, Any, None]:
        """Ends once all of it is durable (one fdatasync with whatever else was queued). Order is kept. The work may
        begin before anybody awaits it.
        Raises StorageFailed; after a failed fdatasync the store refuses everything: the node must stop.
        """
        ...

    async def read(self, group: GroupId, first: LogIndex, last: LogIndex, bytes_max: int) -> tuple[Entry, ...]:
        """Entries [first, last] as far as `bytes_max` goes (at least one). Raises NotFound when compacted."""
        ...

    async def compact(self, group: GroupId, position: SnapshotMeta) -> None:
        """Everything up to `position.index` is durable elsewhere; segments nobody needs are deleted. Returns once that
        is noted durably, or put off because the log takes nothing now: the next compaction says the same and more.
        """
        ...

    def bytes_held(self, group: GroupId) -> int:
        """Bytes of entries after the compacted position."""
        ...

    def pinning(self) -> tuple[GroupId, ...]:
        """Groups whose entries keep the oldest segment alive, while the log is over its byte budget; else empty."""
        ...

    async def drop(self, group: GroupId) -> None:
        """Forget a group whose replica was removed."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A proposal that is committed and applied here."""

    index: LogIndex
    term: Term
    result: object
