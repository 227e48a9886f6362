"""Every group's durable bounds, kept by the journal's worker so that each new segment can open with them.

Invariant: they speak of exactly what is in the segments up to now, never of a write that is still queued.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from dwd.base.errors import InvariantViolation
from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.base.units import MIB
from dwd.journal.frames import Frame
from dwd.raft.core.types import EMPTY_HARD_STATE, EMPTY_SNAPSHOT, ZERO_INDEX, ZERO_TERM, HardState, SnapshotMeta
from dwd.raft.log.records import RECORDS_VERSION, GroupOpening, opening_frames
from dwd.raft.ports import Doubt, LogWrite

SEGMENT_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """`group` is compacted to `position`."""

    group: GroupId
    position: SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """`group` is gone."""

    group: GroupId


Change = LogWrite | Compaction | Removal


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNote:
    """What one submission changes."""

    changes: Sequence[Change]


@dataclass(slots=True, kw_only=True)
class GroupBounds:
    """Mutable: what is known of one group at one place of the log."""

    group: GroupId
    replica: ReplicaId
    hard_state: HardState = EMPTY_HARD_STATE
    compacted: SnapshotMeta = EMPTY_SNAPSHOT
    last_index: LogIndex = ZERO_INDEX
    last_term: Term = ZERO_TERM
    doubt: Doubt = Doubt.NONE
    witness: bool = False

    def write(self, write: LogWrite) -> None:
        self.witness = self.witness or write.witness
        if write.hard_state is not None:
            self.hard_state = write.hard_state
        if write.reset is not None:
            self.compacted = write.reset
            self.last_index, self.last_term = write.reset.index, write.reset.term
        if write.entries:
            self.last_index, self.last_term = write.entries[-1].index, write.entries[-1].term
        if write.tail_confirmed and self.doubt is Doubt.TAIL:
            self.doubt = Doubt.NONE

    def compact(self, position: SnapshotMeta) -> None:
        if position.index > self.compacted.index:
            self.compacted = position
        if position.index > self.last_index:
            self.last_index, self.last_term = position.index, position.term

    def opening(self) -> GroupOpening:
        return GroupOpening(
            group=self.group,
            replica=self.replica,
            hard_state=self.hard_state,
            compacted=self.compacted,
            last_index=self.last_index,
            last_term=self.last_term,
            doubt=self.doubt,
            witness=self.witness,
        )


class LogSegments:
    """The segment policy of the Raft log."""

    def __init__(self, directory: Path, bounds: Iterable[GroupBounds], *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.segment_bytes = segment_bytes
        self.allocate_bytes = segment_bytes
        self._directory = directory
        self._bounds = {b.group: b for b in bounds}

    def path(self, segment: int) -> Path:
        return self._directory / segment_name(segment)

    def header_content(self, segment: int) -> bytes:
        del segment
        return RECORDS_VERSION.to_bytes(2, "big")

    def opening(self, segment: int) -> Sequence[Frame]:
        del segment
        return opening_frames([self._bounds[group].opening() for group in sorted(self._bounds)])

    def committed(self, notes: Sequence[object]) -> None:
        for note in notes:
            if not isinstance(note, LogNote):
                raise InvariantViolation(f"a note of type {type(note).__name__} in the Raft log")
            for change in note.changes:
                self._change(change)

    def _change(self, change: Change) -> None:
        match change:
            case LogWrite():
                bounds = self._bounds.get(change.group)
                if bounds is None or bounds.replica != change.replica:
                    bounds = self._bounds[change.group] = GroupBounds(group=change.group, replica=change.replica)
                bounds.write(change)
            case Compaction():
                if change.group in self._bounds:
                    self._bounds[change.group].compact(change.position)
            case Removal():
                _ = self._bounds.pop(change.group, None)
            case _:
                assert_never(change)


def segment_name(segment: int) -> str:
    return f"{segment:016x}.log"


def parse_segment_name(name: str) -> int | None:
    """The number in a segment's file name, None for any other file."""
    stem, dot, suffix = name.partition(".")
    if not dot or suffix != "log" or len(stem) != 16 or not all(c in "0123456789abcdef" for c in stem):
        return None
    return int(stem, 16)
