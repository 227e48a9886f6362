"""The Raft log of one node: LogStore over a journal.

The event loop's thread keeps where every durable entry lies and the newest entries themselves; the journal's worker
keeps the durable bounds that new segments open with. Both learn of a write in the order of submission.

Invariants: a read never returns an entry that a later submitted write replaced; a segment is removed only when a
newer one has opened durably, no group holds an entry in it, and the compactions that let go of it are durable.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from dwd.base.clock import Rng
from dwd.base.errors import Busy, Corrupt, DwError, InvariantViolation, NoSpace, NotFound, StorageFailed
from dwd.base.ids import GroupId, LogIndex
from dwd.base.units import MIB
from dwd.journal.frames import Frame, Position, frame_bytes
from dwd.journal.reader import JournalReader
from dwd.journal.recovery import remove_durably
from dwd.journal.writer import BATCH_TARGET_BYTES, QUEUE_BYTES_MAX, GroupCommitWriter
from dwd.raft.core.types import EMPTY_SNAPSHOT, Entry, SnapshotMeta
from dwd.raft.log.bounds import SEGMENT_BYTES, Compaction, LogNote, LogSegments, Removal
from dwd.raft.log.index import GroupIndex, Run
from dwd.raft.log.opening import Opened, open_log
from dwd.raft.log.recent import RecentEntries
from dwd.raft.log.records import compacted_frame, decode_entry, dropped_frame, encode_write, split_write
from dwd.raft.ports import Doubt, LogWrite, RecoveredLog
from dwd.runtime.files import Files
from dwd.runtime.mailbox import StartWorker, start_thread

_log = structlog.get_logger("dwd.raft.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftLogOptions:
    """`budget_bytes` is what all segments together may take before groups are asked to compact."""

    segment_bytes: int = SEGMENT_BYTES
    budget_bytes: int = 512 * MIB
    cache_bytes: int = 32 * MIB
    batch_bytes: int = BATCH_TARGET_BYTES
    queue_bytes: int = QUEUE_BYTES_MAX


DEFAULT_OPTIONS = RaftLogOptions()


class RaftLog:
    """Made by `RaftLog.open`. All methods are called on the event loop's thread."""

    def __init__(
        self,
        *,
        files: Files,
        opened: Opened,
        options: RaftLogOptions,
        on_fatal: Callable[[DwError], None],
        start_worker: StartWorker,
    ) -> None:
        self._files = files
        self._options = options
        self._policy: LogSegments = opened.policy
        self._writer = GroupCommitWriter(
            appender=opened.appender,
            name="raft",
            on_fatal=on_fatal,
            queue_bytes_max=options.queue_bytes,
            batch_bytes_target=options.batch_bytes,
            start_worker=start_worker,
        )
        self._reader = JournalReader(files, opened.policy.path)
        self._recovered = dict(opened.logs)
        self._groups: dict[GroupId, GroupIndex] = opened.indexes
        self._recent = RecentEntries(options.cache_bytes)
        self._segments = opened.segments
        self._ticket = 0
        self._removing: asyncio.Future[list[int]] | None = None

    @classmethod
    async def open(
        cls,
        *,
        files: Files,
        directory: Path,
        rng: Rng,
        on_fatal: Callable[[DwError], None],
        options: RaftLogOptions = DEFAULT_OPTIONS,
        distrusted: bool = False,
        start_worker: StartWorker = start_thread,
    ) -> RaftLog:
        """Recover what `directory` holds, or begin an empty log there. `on_fatal`: a sync failed, stop the node.
        `distrusted`: it may be an older copy, so all groups are in doubt about their tails from now on, durably.
        Raises Corrupt (nothing can be made out), VersionRefused, StorageFailed.
        """
        opened = await asyncio.to_thread(open_log, files, directory, rng, options.segment_bytes, distrusted=distrusted)
        for damage in opened.damages:
            _log.error(
                "log damaged",
                verdict=damage.verdict.value,
                segment=damage.segment,
                offset=damage.offset,
                sequence=damage.sequence,
            )
        for log in opened.logs.values():
            if log.doubt is not Doubt.NONE:
                _log.warning("log in doubt", group=log.group, replica=log.replica, doubt=log.doubt.value)
        count = sum(len(log.entries) for log in opened.logs.values())
        _log.info("log recovered", groups=len(opened.logs), entries=count, segments=len(opened.segments))
        return cls(files=files, opened=opened, options=options, on_fatal=on_fatal, start_worker=start_worker)

    def recovered(self) -> Mapping[GroupId, RecoveredLog]:
        """Of each group until its first compaction, reset or drop."""
        return self._recovered

    def release_recovered(self) -> None:
        self._recovered.clear()

    def write(self, writes: Sequence[LogWrite]) -> Coroutine[Any, Any, None]:
        """The journal's worker begins at once: under a busy loop a task would be a turn late."""
        return _all_of([self._submit(part) for part in _parts(writes, self._options.batch_bytes)])

    async def read(self, group: GroupId, first: LogIndex, last: LogIndex, bytes_max: int) -> tuple[Entry, ...]:
        index = self._groups.get(group)
        recent_first = self._recent.first(group)
        if recent_first is not None and first >= recent_first:
            return _limited(self._recent.slice(group, first, last), bytes_max, first)
        if index is None or first < index.first or first > index.last:
            raise NotFound("raft.log_compacted", f"group {group} holds no entry {first}", group=group, index=first)
        stored_last = min(last, index.last if recent_first is None else recent_first - 1)
        newer = self._recent.slice(group, stored_last + 1, last)
        runs = index.runs(first, stored_last, bytes_max)
        try:
            entries = await asyncio.to_thread(self._read_runs, runs, first)
        except (StorageFailed, Corrupt):
            now = self._groups.get(group)
            if now is not index or first < now.first:
                raise NotFound("raft.log_compacted", f"entry {first} of group {group} is gone", group=group) from None
            raise
        if len(entries) == stored_last + 1 - first:
            entries += newer
        return _limited(entries, bytes_max, first)

    async def compact(self, group: GroupId, position: SnapshotMeta) -> None:
        index = self._groups.get(group)
        if index is None or position.index <= index.compacted.index:
            return

        def done(_: Sequence[Position], error: DwError | None) -> None:
            if error is None and self._groups.get(group) is index:
                index.compact(position)
                self._recovered.pop(group, None)
                self._remove_unneeded()

        frame = compacted_frame(group, index.replica, position)
        note = LogNote(changes=(Compaction(group=group, position=position),))
        try:
            _ = await self._writer.submit([frame], note=note, done=done)
        except (Busy, NoSpace, StorageFailed):
            _log.info("compaction of the log put off", group=group)

    def bytes_held(self, group: GroupId) -> int:
        index = self._groups.get(group)
        return index.bytes if index is not None else 0

    def pinning(self) -> tuple[GroupId, ...]:
        if len(self._segments) < 2 or len(self._segments) * self._options.segment_bytes <= self._options.budget_bytes:
            return ()
        oldest = self._segments[0]
        return tuple(sorted(g for g, index in self._groups.items() if index.oldest_segment == oldest))

    async def drop(self, group: GroupId) -> None:
        index = self._groups.get(group)
        if index is None:
            return

        def done(_: Sequence[Position], error: DwError | None) -> None:
            if error is None and self._groups.get(group) is index:
                del self._groups[group]
                self._recovered.pop(group, None)
                self._remove_unneeded()

        self._recent.forget(group)
        note = LogNote(changes=(Removal(group=group),))
        _ = await self._writer.submit([dropped_frame(group, index.replica)], note=note, done=done)

    async def close(self) -> None:
        await self._writer.close()
        while self._removing is not None:
            _ = await asyncio.wait([self._removing])
        self._reader.close()

    def _submit(self, part: _Part) -> asyncio.Future[Sequence[Position]]:
        indexes = self._indexes_for(part.writes)
        self._ticket += 1
        ticket = self._ticket

        def done(positions: Sequence[Position], error: DwError | None) -> None:
            if error is not None:
                self._take_back(part, indexes)
                return
            for write, sizes, index, position in zip(part.writes, part.sizes, indexes, positions, strict=True):
                _place(index, write, sizes, position)
            self._saw_segment(positions[-1].segment)
            self._recent.durable(ticket)

        future = self._writer.submit(part.frames, note=LogNote(changes=part.writes), done=done)
        for write, index in zip(part.writes, indexes, strict=True):
            self._note_submitted(write, index, ticket)
        return future

    def _indexes_for(self, writes: Sequence[LogWrite]) -> list[GroupIndex]:
        """Each write's index, a new one for a new replica. Raises InvariantViolation if entries leave a hole."""
        staged: dict[GroupId, tuple[GroupIndex | None, int | None]] = {}
        indexes: list[GroupIndex] = []
        for write in writes:
            index, last = staged.get(write.group, (self._groups.get(write.group), None))
            if index is None or index.replica != write.replica:
                index, last = GroupIndex(write.replica, EMPTY_SNAPSHOT), 0
            if last is None:
                last = index.submitted_last
            if write.reset is not None:
                last = write.reset.index
            for entry in write.entries:
                if entry.index > last + 1:
                    raise InvariantViolation(f"log entry {entry.index} after {last}", group=write.group)
                last = entry.index
            staged[write.group] = index, last
            indexes.append(index)
        return indexes

    def _note_submitted(self, write: LogWrite, index: GroupIndex, ticket: int) -> None:
        if self._groups.get(write.group) is not index:
            self._groups[write.group] = index
            self._forget(write.group)
        if write.reset is not None:
            index.submitted_last = write.reset.index
            self._forget(write.group)
        if write.entries:
            index.submitted_last = write.entries[-1].index
            self._recent.append(write.group, write.entries, ticket)

    def _forget(self, group: GroupId) -> None:
        self._recent.forget(group)
        self._recovered.pop(group, None)

    def _take_back(self, part: _Part, indexes: Sequence[GroupIndex]) -> None:
        """A failed write: all that was queued behind it fails too, so what is durable is what there is."""
        for write, index in zip(part.writes, indexes, strict=True):
            self._recent.forget(write.group)
            index.submitted_last = index.last

    def _saw_segment(self, segment: int) -> None:
        if not self._segments or segment > self._segments[-1]:
            self._segments.append(segment)
            self._remove_unneeded()

    def _remove_unneeded(self) -> None:
        if self._removing is not None or not self._segments:
            return
        held = (index.oldest_segment for index in self._groups.values())
        needed = min((s for s in held if s is not None), default=self._segments[-1])
        unneeded = [s for s in self._segments if s < min(needed, self._segments[-1])]
        if unneeded:
            loop = asyncio.get_running_loop()
            self._removing = loop.run_in_executor(None, self._remove, unneeded)
            self._removing.add_done_callback(self._removed)

    def _remove(self, segments: Sequence[int]) -> list[int]:
        """Worker thread: remove what can be removed, the oldest first; what was."""
        removed: list[int] = []
        try:
            for segment in segments:
                self._reader.forget(segment)
                remove_durably(self._files, self._policy.path(segment))
                removed.append(segment)
        except StorageFailed as error:
            _log.warning("segment not removed", segment=segments[len(removed)], error=str(error))
        return removed

    def _removed(self, future: asyncio.Future[list[int]]) -> None:
        self._removing = None
        if future.cancelled() or future.exception() is not None:
            return
        gone = set(future.result())
        self._segments = [s for s in self._segments if s not in gone]
        if gone:
            self._remove_unneeded()

    def _read_runs(self, runs: Sequence[Run], first: int) -> list[Entry]:
        """Worker thread: the entries of `runs`, verified, numbered from `first`."""
        entries: list[Entry] = []
        for run in runs:
            content = memoryview(self._reader.read_range(run.segment, run.offset, run.length))
            while content:
                try:
                    entry, size = decode_entry(content)
                except struct.error as error:
                    raise Corrupt("raft.log_entry", "a log entry is cut short", segment=run.segment) from error
                if entry.index != first + len(entries):
                    raise Corrupt("raft.log_entry", f"log entry {entry.index} where another belongs")
                entries.append(entry)
                content = content[size:]
        return entries


async def _all_of(futures: Sequence[asyncio.Future[Sequence[Position]]]) -> None:
    for future in futures:
        _ = await future


class _Part:
    """One submission under construction."""

    __slots__ = ("bytes", "frames", "sizes", "writes")

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.writes: list[LogWrite] = []
        self.sizes: list[tuple[int, ...]] = []
        self.bytes = 0


def _parts(writes: Sequence[LogWrite], bytes_max: int) -> list[_Part]:
    """`writes` in as few submissions as the journal's batches allow. Raises InvalidArgument."""
    parts = [_Part()]
    for whole in writes:
        for write in split_write(whole):
            frame, sizes = encode_write(write)
            size = frame_bytes(frame)
            if parts[-1].frames and parts[-1].bytes + size > bytes_max:
                parts.append(_Part())
            part = parts[-1]
            part.frames.append(frame)
            part.writes.append(write)
            part.sizes.append(sizes)
            part.bytes += size
    return [part for part in parts if part.frames]


def _place(index: GroupIndex, write: LogWrite, sizes: tuple[int, ...], position: Position) -> None:
    """Entries are the end of their frame's payload."""
    if write.reset is not None:
        index.reset(write.reset)
    if write.entries:
        offset = position.offset + position.length - sum(sizes)
        index.append(write.entries[0].index, position.segment, offset, sizes)


def _limited(entries: Sequence[Entry], bytes_max: int, first: int) -> tuple[Entry, ...]:
    """As many of `entries` as `bytes_max` allows, at least one. Raises NotFound if there is none."""
    if not entries:
        raise NotFound("raft.log_entry_absent", f"the log holds no entry {first}", index=first)
    taken, total = 0, 0
    for entry in entries:
        total += len(entry.payload)
        if taken and total > bytes_max:
            break
        taken += 1
    return tuple(entries[:taken])
