"""From a journal's batches to each group's log, and what must be doubted of it.

A damage makes doubtful every group that may have had a frame in it. The opening of a later segment then says what each
group had when that segment began: a group that still has all of it lost nothing and is cleared (by log matching the
same last index and term mean the same entries); one that has not shows a hole. Entries written after a damage are
never joined to entries from before it: what was lost between may have replaced some of those. A torn batch at the
very end has no later witness, so its groups stay doubtful until the leader has confirmed them (Doubt.TAIL, durable).
Source: docs/adr/0005-whom-a-damaged-log-batch-puts-in-doubt.md says why this is safe.
Hazard: a group whose every record was lost is not known here at all. Whoever has its database but no log must treat
the replica as one that lost its vote.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dwd.base.errors import Corrupt, VersionRefused
from dwd.base.ids import GroupId, ReplicaId
from dwd.journal.frames import FrameHeader
from dwd.journal.recovery import Damage, Recovery, SegmentBegun, Verdict
from dwd.journal.scan import ScannedBatch
from dwd.raft.core.types import Entry
from dwd.raft.log.bounds import GroupBounds
from dwd.raft.log.index import GroupIndex
from dwd.raft.log.records import (
    RECORDS_VERSION,
    EntryPlace,
    GroupOpening,
    RecordKind,
    decode_group_opening,
    decode_position,
    decode_write,
)
from dwd.raft.ports import Doubt, LogWrite, RecoveredLog


@dataclass(slots=True, kw_only=True)
class _Held:
    entry: Entry
    segment: int
    place: EntryPlace


@dataclass(slots=True, kw_only=True)
class _Group:
    """A group's log so far. `held` ends at `bounds.last_index`; what is missing before it shows at the end."""

    bounds: GroupBounds
    held: deque[_Held] = field(default_factory=deque)
    suspect: Doubt = Doubt.NONE
    severed: bool = False
    """Something may be missing between `held` and what comes next."""

    @property
    def first_held(self) -> int:
        return self.held[0].entry.index if self.held else self.bounds.last_index + 1

    def suspected(self, doubt: Doubt) -> None:
        if self.suspect is not Doubt.CORRUPT:
            self.suspect = doubt
        self.severed = self.severed or doubt is Doubt.CORRUPT

    def write(self, write: LogWrite, segment: int, base: int, places: tuple[EntryPlace, ...]) -> None:
        if write.reset is not None:
            self.held.clear()
            self.severed = False
            self.bounds.write(LogWrite(group=write.group, replica=write.replica, reset=write.reset))
        if write.entries:
            first = write.entries[0].index
            if first > self.bounds.last_index + 1:
                self.suspected(Doubt.CORRUPT)
            if self.severed:
                self.held.clear()
                self.severed = False
            while self.held and self.held[-1].entry.index >= first:
                self.held.pop()
            for entry, place in zip(write.entries, places, strict=True):
                at = EntryPlace(offset=base + place.offset, length=place.length)
                self.held.append(_Held(entry=entry, segment=segment, place=at))
        if write.tail_confirmed and self.suspect is Doubt.TAIL:
            self.suspect = Doubt.NONE
        self.bounds.write(
            LogWrite(
                group=write.group,
                replica=write.replica,
                hard_state=write.hard_state,
                entries=write.entries[-1:],
                tail_confirmed=write.tail_confirmed,
                witness=write.witness,
            )
        )

    def open(self, opening: GroupOpening) -> None:
        """A later segment's word on this group: cleared if nothing of it is missing, else only its end is known."""
        same_end = (self.bounds.last_index, self.bounds.last_term) == (opening.last_index, opening.last_term)
        if not same_end:
            self.held.clear()
        self.bounds = bounds_of(opening)
        self.suspect = Doubt.NONE
        self.severed = False
        self.trim()

    def trim(self) -> None:
        while self.held and self.held[0].entry.index <= self.bounds.compacted.index:
            self.held.popleft()

    def doubt(self) -> Doubt:
        doubts = {self.bounds.doubt, self.suspect}
        if Doubt.CORRUPT in doubts or self.first_held > self.bounds.compacted.index + 1:
            return Doubt.CORRUPT
        return Doubt.TAIL if Doubt.TAIL in doubts else Doubt.NONE


class Replay:
    """Feed it a Recovery; then `logs`, `bounds` and `indexes` are what the store starts with."""

    def __init__(self) -> None:
        self.damages: list[Damage] = []
        self.segments: list[int] = []
        self._groups: dict[GroupId, _Group] = {}
        self._blind = False
        """Since the last opening, frames of groups not known here may have been lost."""

    def run(self, recovery: Recovery) -> None:
        """Raises Corrupt, VersionRefused, StorageFailed."""
        for event in recovery:
            match event:
                case SegmentBegun():
                    _check_version(event)
                    self.segments.append(event.segment)
                case ScannedBatch():
                    self._batch(tuple(zip(event.head.frames, event.payloads, strict=True)))
                case Damage():
                    self._damage(event)
        for group in self._groups.values():
            group.trim()
            group.bounds.doubt = group.doubt()
            if group.first_held > group.bounds.compacted.index + 1:
                group.held.clear()

    def distrust(self) -> None:
        """Every group's end is in doubt: the whole log may be an older copy of itself."""
        for group in self._groups.values():
            if group.bounds.doubt is Doubt.NONE:
                group.bounds.doubt = Doubt.TAIL

    def logs(self) -> dict[GroupId, RecoveredLog]:
        return {
            name: RecoveredLog(
                group=name,
                replica=group.bounds.replica,
                hard_state=group.bounds.hard_state,
                compacted=group.bounds.compacted,
                entries=tuple(held.entry for held in group.held),
                doubt=group.bounds.doubt,
                witness=group.bounds.witness,
            )
            for name, group in self._groups.items()
        }

    def bounds(self) -> list[GroupBounds]:
        return [group.bounds for group in self._groups.values()]

    def indexes(self) -> dict[GroupId, GroupIndex]:
        indexes: dict[GroupId, GroupIndex] = {}
        for name, group in self._groups.items():
            index = indexes[name] = GroupIndex(group.bounds.replica, group.bounds.compacted)
            for held in group.held:
                index.append(held.entry.index, held.segment, held.place.offset, (held.place.length,))
            index.submitted_last = index.last
        return indexes

    def _batch(self, frames: tuple[tuple[FrameHeader, memoryview], ...]) -> None:
        if frames and frames[0][0].kind == RecordKind.OPENED:
            listed = {GroupId(header.group) for header, _ in frames if header.kind == RecordKind.GROUP}
            for gone in self._groups.keys() - listed:
                del self._groups[gone]
            self._blind = False
        for header, payload in frames:
            self._frame(header, payload)

    def _frame(self, header: FrameHeader, payload: memoryview) -> None:
        name, replica = GroupId(header.group), ReplicaId(header.replica)
        match header.kind:
            case RecordKind.WRITE:
                write, places = decode_write(name, replica, payload)
                group = self._groups.get(name)
                if group is None or group.bounds.replica != replica:
                    group = self._groups[name] = _Group(bounds=GroupBounds(group=name, replica=replica))
                    if self._blind:
                        group.suspected(Doubt.CORRUPT)
                group.write(write, header.position.segment, header.position.offset, places)
            case RecordKind.COMPACTED:
                group = self._groups.get(name)
                if group is not None and group.bounds.replica == replica:
                    group.bounds.compact(decode_position(payload)[0])
                    group.trim()
            case RecordKind.DROPPED:
                self._groups.pop(name, None)
            case RecordKind.GROUP:
                self._open(decode_group_opening(name, replica, payload))
            case RecordKind.OPENED:
                return
            case _:
                raise Corrupt("raft.log_record", f"a frame of unknown kind {header.kind} in the Raft log")

    def _open(self, opening: GroupOpening) -> None:
        group = self._groups.get(opening.group)
        if group is None or group.bounds.replica != opening.replica:
            self._groups[opening.group] = _Group(bounds=bounds_of(opening))
        else:
            group.open(opening)

    def _damage(self, damage: Damage) -> None:
        self.damages.append(damage)
        doubt = Doubt.TAIL if damage.verdict is Verdict.TORN else Doubt.CORRUPT
        if damage.frames is None:
            self._blind = True
            for group in self._groups.values():
                group.suspected(doubt)
            return
        doubted: set[int] = set()
        for header in damage.frames:
            if header.kind == RecordKind.OPENED:
                continue
            doubted.add(header.group)
            name, replica = GroupId(header.group), ReplicaId(header.replica)
            known = self._groups.get(name)
            if known is None or (known.bounds.replica != replica and doubt is Doubt.CORRUPT):
                # It was here, or began in a batch that may have been acknowledged: better known and doubted.
                known = self._groups[name] = _Group(bounds=GroupBounds(group=name, replica=replica))
            known.suspected(doubt)
        for header, payload in damage.sound:
            # Not as an opening, even if it was one: a group whose record there was lost has not left. And nothing of a
            # group that lost a frame: whether that came before or after, what follows must not be joined to it.
            if header.group not in doubted:
                self._frame(header, payload)


def bounds_of(opening: GroupOpening) -> GroupBounds:
    return GroupBounds(
        group=opening.group,
        replica=opening.replica,
        hard_state=opening.hard_state,
        compacted=opening.compacted,
        last_index=opening.last_index,
        last_term=opening.last_term,
        doubt=opening.doubt,
    )


def _check_version(event: SegmentBegun) -> None:
    version = int.from_bytes(event.header.content, "big") if event.header is not None else RECORDS_VERSION
    if version > RECORDS_VERSION:
        raise VersionRefused(
            "raft.log_version",
            f"the Raft log has records of version {version}, this daemon reads up to {RECORDS_VERSION}",
            hint="start the newer daemon on this data",
        )
