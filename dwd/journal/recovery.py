"""Reading a whole journal back after a stop of any kind, and cutting what the last moment left half done.

The rules, from the writer's promise that batch n+1 is written only after batch n is durable:
* a bad batch with a sound one after it, in its own segment or a later one, was durable once: CORRUPT;
* a bad batch with nothing after it is either a torn write that nobody was told of or rot of something acknowledged,
  and no one can say which: TORN. It is cut, and what it may have held is in doubt;
* numbers missing between two segments were durable once: CORRUPT;
* a next segment that starts with the bad batch's own number shows that an earlier recovery has cut it: no news.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from dwd.base.errors import Corrupt
from dwd.journal.appender import FIRST_TAIL, Tail
from dwd.journal.frames import FrameHeader
from dwd.journal.scan import WINDOW_BYTES, Gap, ScannedBatch, SegmentScan, is_blank
from dwd.journal.segments import HEADER_BYTES, SegmentHeader, decode_header
from dwd.runtime.files import File, Files


class Verdict(Enum):
    CORRUPT = "corrupt"
    TORN = "torn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A place where batches are missing. `frames` are those lost, None if that cannot be known; `sound` are frames of
    the same, corrupt, batch that still verify. Of a torn batch nothing counts: all its frames are lost.
    """

    verdict: Verdict
    segment: int
    offset: int
    sequence: int
    frames: tuple[FrameHeader, ...] | None = None
    sound: tuple[tuple[FrameHeader, memoryview], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentBegun:
    """From here on batches are of this segment. `header` None: it did not verify (a Damage said so)."""

    segment: int
    header: SegmentHeader | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    number: int
    path: Path
    header: SegmentHeader | None


class Recovery:
    """Iterate once for SegmentBegun, ScannedBatch and Damage in order of writing; then `tail` and `torn` are set.

    Nothing is changed on disk; `cut` and `Appender` do that.
    """

    def __init__(self, files: Files, paths: Mapping[int, Path], *, journal: bytes | None = None) -> None:
        """`paths` by segment number; `journal` if the caller knows the id. Raises Corrupt (not one header is sound
        although batches may be there), VersionRefused, StorageFailed.
        """
        self._files = files
        self._segments = [_Segment(number=n, path=paths[n], header=self._header(paths[n], n)) for n in sorted(paths)]
        found = {s.header.journal for s in self._segments if s.header is not None}
        if journal is not None:
            found.add(journal)
        if len(found) > 1:
            raise Corrupt("journal.mixed", "segments of more than one journal in one place")
        self.unfinished: list[Path] = []
        """Segments without a header and without content: the power went while they were made. To be removed."""
        self._leave_out_unfinished()
        self.journal = next(iter(found), None)
        if self._segments and self.journal is None:
            raise Corrupt(
                "journal.headers",
                f"no header of {len(self._segments)} segments verifies",
                hint="this copy cannot be read; wipe it and let it be rebuilt from its peers",
            )
        self.tail = FIRST_TAIL
        self.torn: Damage | None = None
        """The bad final batch, if there is one."""

    def __iter__(self) -> Iterator[SegmentBegun | ScannedBatch | Damage]:
        expected: int | None = None
        for segment, following in zip(self._segments, [*self._segments[1:], None], strict=False):
            if segment.header is None:
                yield Damage(verdict=Verdict.CORRUPT, segment=segment.number, offset=0, sequence=expected or 0)
            yield SegmentBegun(segment=segment.number, header=segment.header)
            begins = segment.header.first_sequence if segment.header is not None else expected
            with contextlib.closing(self._files.open(segment.path)) as file:
                expected = yield from self._scan(file, segment.number, begins, following)

    def _scan(
        self, file: File, number: int, begins: int | None, following: _Segment | None
    ) -> Generator[ScannedBatch | Damage, None, int | None]:
        """One segment's events; the sequence the next one must begin with, None if that cannot be known."""
        next_first = following.header.first_sequence if following is not None and following.header is not None else None
        journal = self.journal or b""
        scan = SegmentScan(file, journal=journal, segment=number, sequence=begins, sequence_end=next_first)
        gap: Gap | None = None
        for found in scan:
            gap = None
            if isinstance(found, ScannedBatch):
                yield found
            elif found.later is not None:
                yield _damage(Verdict.CORRUPT, found)
            else:
                gap = found
        self.tail = Tail(segment=number, offset=scan.offset, sequence=scan.sequence)
        if gap is None:
            if next_first is not None and scan.sequence < next_first:
                yield Damage(verdict=Verdict.CORRUPT, segment=number, offset=scan.offset, sequence=scan.sequence)
            return scan.sequence
        cut_here = following is None or next_first == gap.sequence
        verdict = Verdict.TORN if cut_here else Verdict.CORRUPT
        damage = _damage(verdict, gap)
        if following is None:
            self.torn = damage
            if begins is None:
                # Numbers already used here cannot be known: go on past all that could be.
                self.tail = replace(self.tail, sequence=self.tail.sequence + file.size())
        yield damage
        return gap.sequence if cut_here else None

    def _header(self, path: Path, number: int) -> SegmentHeader | None:
        with contextlib.closing(self._files.open(path)) as file:
            page = file.read_at(0, HEADER_BYTES)
        try:
            header = decode_header(page)
        except Corrupt:
            return None
        return header if header.segment == number else None

    def _leave_out_unfinished(self) -> None:
        kept: list[_Segment] = []
        for segment in self._segments:
            if segment.header is None and _is_empty(self._files, segment.path):
                self.unfinished.append(segment.path)
            else:
                kept.append(segment)
        self._segments = kept


def settle(files: Files, path: Path) -> None:
    """Make the last segment durable before what is read from it is believed: after a crash of the process alone, the
    page cache shows batches whose sync never happened. Raises StorageFailed.
    """
    with contextlib.closing(files.open(path)) as file:
        file.sync()
    files.sync_directory(path.parent)


def cut(files: Files, path: Path, damage: Damage) -> None:
    """Remove a bad final batch for good, before anything is written in its place. Raises StorageFailed."""
    with contextlib.closing(files.open(path)) as file:
        file.truncate(damage.offset)
        file.sync()


def remove_durably(files: Files, path: Path) -> None:
    """Remove a segment; the oldest first, one by one, or a power loss leaves a hole that looks like corruption."""
    files.remove(path)
    files.sync_directory(path.parent)


def _damage(verdict: Verdict, gap: Gap) -> Damage:
    frames, sound = gap.damaged, gap.sound
    if verdict is Verdict.TORN and frames is not None:
        frames, sound = (*frames, *(frame for frame, _ in sound)), ()
    return Damage(
        verdict=verdict, segment=gap.segment, offset=gap.offset, sequence=gap.sequence, frames=frames, sound=sound
    )


def _is_empty(files: Files, path: Path) -> bool:
    """Nothing but zeros after the header page."""
    with contextlib.closing(files.open(path)) as file:
        at, size = HEADER_BYTES, file.size()
        while at < size:
            piece = file.read_at(at, WINDOW_BYTES)
            if not is_blank(piece):
                return False
            at += len(piece)
    return True
