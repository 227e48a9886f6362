"""Where each group's durable entries lie, in arrays: 12 bytes an entry."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from dwd.base.errors import InvariantViolation
from dwd.base.ids import ReplicaId
from dwd.raft.core.types import SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Entries that lie one after another in one segment, read at once."""

    segment: int
    offset: int
    length: int


class GroupIndex:
    """Durable entries [first, first + count) of one group, right after its compacted position.

    Invariant: segments never fall from one entry to the next, so the first entry's is the oldest the group needs.
    """

    __slots__ = ("_lengths", "_offsets", "_segments", "bytes", "compacted", "first", "replica", "submitted_last")

    def __init__(self, replica: ReplicaId, compacted: SnapshotMeta) -> None:
        self.replica = replica
        self.compacted = compacted
        self.first = compacted.index + 1
        self.bytes = 0
        self.submitted_last: int = compacted.index
        """The last index on its way to disk; `last` follows."""
        self._segments = array("I")
        self._offsets = array("I")
        self._lengths = array("I")

    @property
    def last(self) -> int:
        """The last durable entry's index; `first` - 1 if there is none."""
        return self.first + len(self._offsets) - 1

    @property
    def oldest_segment(self) -> int | None:
        return self._segments[0] if self._segments else None

    def append(self, index: int, segment: int, offset: int, lengths: Sequence[int]) -> None:
        """Entries from `index` on lie from `offset` on, one after another; those at and after `index` go first."""
        if index > self.last + 1:
            if self._offsets:
                raise InvariantViolation(f"log entry {index} does not follow {self.last}")
            self.first = index
        self.first = min(self.first, index)
        self._truncate(index - self.first)
        for length in lengths:
            self._segments.append(segment)
            self._offsets.append(offset)
            self._lengths.append(length)
            offset += length
        self.bytes += sum(lengths)

    def compact(self, position: SnapshotMeta) -> None:
        if position.index <= self.compacted.index:
            return
        self.compacted = position
        gone = min(position.index + 1 - self.first, len(self._offsets))
        if gone > 0:
            self.bytes -= sum(self._lengths[:gone])
            for column in (self._segments, self._offsets, self._lengths):
                del column[:gone]
        self.first = max(self.first, position.index + 1)

    def reset(self, position: SnapshotMeta) -> None:
        """Hold nothing; entries go on after `position`."""
        self._truncate(0)
        self.compacted = position
        self.first = position.index + 1

    def runs(self, first: int, last: int, bytes_max: int) -> list[Run]:
        """Where to read entries [first, last] as far as `bytes_max` goes, at least one. All must be held."""
        runs: list[Run] = []
        taken = 0
        for at in range(first - self.first, last + 1 - self.first):
            segment, offset, length = self._segments[at], self._offsets[at], self._lengths[at]
            if runs and taken + length > bytes_max:
                break
            taken += length
            if runs and runs[-1].segment == segment and runs[-1].offset + runs[-1].length == offset:
                runs[-1] = Run(segment=segment, offset=runs[-1].offset, length=runs[-1].length + length)
            else:
                runs.append(Run(segment=segment, offset=offset, length=length))
        return runs

    def _truncate(self, kept: int) -> None:
        if kept < len(self._offsets):
            self.bytes -= sum(self._lengths[kept:])
            for column in (self._segments, self._offsets, self._lengths):
                del column[kept:]
