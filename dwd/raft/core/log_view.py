"""What the core knows of its log: recent entries in memory, the term of every index since compaction, what is durable.

The newest entries stand in a list; those that are durable and applied leave it past a byte bound and are fetched from
the log store when a slow follower needs them. Terms are kept as runs (first index, term): a run an election, so every
index since compaction has its term at the price of a bisection.

Invariants: base.index <= stable <= last_index (after a reset once it is durable); cache_first <= last_index + 1;
entries not yet durable are always in memory.
Source: Ongaro & Ousterhout 2014, 5.3 (log matching), 5.4.2 end (conflicts skipped a term at a time), 7 (compaction).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex, Stamp, Term
from dwd.raft.core.options import APPEND_OVERHEAD_BYTES
from dwd.raft.core.types import Entry, SnapshotMeta


def entry_bytes(entry: Entry) -> int:
    """What an entry counts against every byte bound."""
    return len(entry.payload) + APPEND_OVERHEAD_BYTES


def total_bytes(entries: Sequence[Entry]) -> int:
    """`entry_bytes` of all of them."""
    return sum([len(entry.payload) for entry in entries]) + len(entries) * APPEND_OVERHEAD_BYTES


class LogView:
    __slots__ = (
        "_batches", "_cache_stamp", "_entries", "_run_first", "_run_term", "base", "cache_bytes", "cache_first",
        "last_index", "last_stamp", "last_term", "stable", "unwritten",
    )  # fmt: skip

    def __init__(self, base: SnapshotMeta, entries: Sequence[Entry]) -> None:
        self.base = base
        self._reset()
        self.append(entries)
        self.stable = self.last_index
        self.unwritten = LogIndex(self.last_index + 1)

    def _reset(self) -> None:
        """Nothing but the base position."""
        base = self.base
        self._run_first: list[int] = [base.index]
        self._run_term: list[Term] = [base.term]
        self._entries: list[Entry] = []
        self._batches: deque[tuple[int, int]] = deque()
        """(last index, bytes) of what was appended together, so that eviction does not count entry by entry."""
        self.cache_first = LogIndex(base.index + 1)
        self.cache_bytes = 0
        self._cache_stamp = base.stamp
        self.last_index: LogIndex = base.index
        self.last_term: Term = base.term
        self.last_stamp: Stamp = base.stamp
        self.stable = LogIndex(0)
        """The last index that is durable here and still what the log holds."""
        self.unwritten = self.cache_first
        """The first index that was not handed out for writing."""

    def term_of(self, index: int) -> Term | None:
        """The term of the entry at `index`; None below the compacted position and past the end."""
        if index > self.last_index or index < self.base.index:
            return None
        if index >= self._run_first[-1]:
            return self._run_term[-1]
        return self._run_term[bisect_right(self._run_first, index) - 1]

    def last_at_or_below(self, index: int, term: int) -> tuple[LogIndex, Term]:
        """The last position at or below `index` whose term is at most `term`. Where that lies below the compacted
        position its term is unknown and given as 0.
        """
        at = min(index, self.last_index)
        run = bisect_right(self._run_first, at) - 1
        while run >= 0 and self._run_term[run] > term:
            at = self._run_first[run] - 1
            run -= 1
        return LogIndex(max(at, 0)), self._run_term[run] if run >= 0 else Term(0)

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log ending there is at least as up-to-date as this one (figure 2, RequestVote; 5.4.1)."""
        return last_term > self.last_term or (last_term == self.last_term and last_index >= self.last_index)

    def append(self, entries: Sequence[Entry]) -> None:
        """Put `entries` right after the last one."""
        if not entries:
            return
        last = entries[-1]
        if entries[0].index != self.last_index + 1 or last.index != self.last_index + len(entries):
            raise InvariantViolation("the log would get a gap", last=self.last_index, first=entries[0].index)
        if last.term != self.last_term:
            self._extend_runs(entries)
        self._entries.extend(entries)
        size = total_bytes(entries)
        self._batches.append((last.index, size))
        self.cache_bytes += size
        self.last_index, self.last_term, self.last_stamp = last.index, last.term, last.stamp

    def _extend_runs(self, entries: Sequence[Entry]) -> None:
        term = self.last_term
        for entry in entries:
            if entry.term != term:
                if entry.term < term:
                    raise InvariantViolation("terms in the log would fall", index=entry.index)
                term = entry.term
                self._run_first.append(entry.index)
                self._run_term.append(term)

    def truncate_after(self, index: int) -> None:
        """Drop everything above `index`, which is at or above the last one evicted."""
        keep = index + 1 - self.cache_first
        if keep < 0 or index > self.last_index:
            raise InvariantViolation("the log would be cut where it is settled", index=index, first=self.cache_first)
        del self._entries[keep:]
        self._recount(LogIndex(index))
        while len(self._run_first) > 1 and self._run_first[-1] > index:
            self._run_first.pop()
            self._run_term.pop()
        self.last_index, self.last_term = LogIndex(index), self._run_term[-1]
        self.last_stamp = self._entries[-1].stamp if self._entries else self._cache_stamp
        self.stable = LogIndex(min(self.stable, index))
        self.unwritten = LogIndex(min(self.unwritten, index + 1))

    def reset(self, base: SnapshotMeta) -> None:
        """The log is emptied to a snapshot's position; `stable` follows when the install is durable."""
        self.base = base
        self._reset()

    def compact(self, base: SnapshotMeta) -> None:
        """Entries up to `base.index` are going away; what is cached of them goes too."""
        run = bisect_right(self._run_first, base.index) - 1
        if run > 0:
            del self._run_first[:run]
            del self._run_term[:run]
        self._run_first[0] = base.index
        self.base = base
        if base.index >= self.cache_first:
            self._drop(base.index)
            self._recount(self.last_index)

    def evict(self, upto: int, bytes_max: int) -> None:
        """Forget cached entries at or below `upto` while more than `bytes_max` are cached.

        Works only once a quarter more has gathered, so that moving the list costs nothing an entry.
        """
        if self.cache_bytes <= bytes_max + bytes_max // 4:
            return
        limit, last = min(upto, self.stable), 0
        while self._batches and self._batches[0][0] <= limit and self.cache_bytes > bytes_max:
            last, size = self._batches.popleft()
            self.cache_bytes -= size
        self._drop(last)

    def _drop(self, upto: int) -> None:
        """Forget cached entries up to `upto`; the batches are the caller's."""
        count = upto + 1 - self.cache_first
        if count > 0:
            self._cache_stamp = self._entries[count - 1].stamp
            del self._entries[:count]
            self.cache_first = LogIndex(upto + 1)

    def _recount(self, last: LogIndex) -> None:
        """One batch of all that is cached."""
        self.cache_bytes = total_bytes(self._entries)
        self._batches.clear()
        if self._entries:
            self._batches.append((last, self.cache_bytes))

    def slice(self, first: int, last: int, *, count_max: int, bytes_max: int) -> tuple[tuple[Entry, ...], int]:
        """Cached entries [first, last] within the bounds (at least one if there is one), and their bytes."""
        start = first - self.cache_first
        chosen = self._entries[start : min(last - self.cache_first + 1, start + count_max)]
        return bounded(chosen, bytes_max)

    def may_equal(self, entry: Entry) -> bool:
        """False only if a cached entry at the same index is another one."""
        place = entry.index - self.cache_first
        return not 0 <= place < len(self._entries) or self._entries[place] == entry

    def take_unwritten(self) -> tuple[Entry, ...]:
        """Entries to be made durable, each handed out once."""
        if self.unwritten > self.last_index:
            return ()
        entries = tuple(self._entries[self.unwritten - self.cache_first :])
        self.unwritten = LogIndex(self.last_index + 1)
        return entries

    def cached_from(self, first: int) -> list[Entry]:
        """Cached entries from `first` on; all there are if none was evicted above it."""
        return self._entries[max(0, first - self.cache_first) :]


def bounded(entries: Sequence[Entry], bytes_max: int) -> tuple[tuple[Entry, ...], int]:
    """The longest start of `entries` within `bytes_max`, at least one entry, and its bytes."""
    total = total_bytes(entries)
    if total <= bytes_max or len(entries) <= 1:
        return tuple(entries), total
    total = 0
    for count, entry in enumerate(entries):
        size = entry_bytes(entry)
        if count and total + size > bytes_max:
            return tuple(entries[:count]), total
        total += size
    return tuple(entries), total
