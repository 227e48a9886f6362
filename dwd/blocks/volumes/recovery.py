"""Reading volumes back at start: what the index does not know yet, and where the next batch goes.

Volumes are scanned from the index's checkpoint, so a normal start reads only the tail. A damaged place costs the
fragments in it and nothing else: they are simply not there, and repair rebuilds them from the other devices. A torn
end is cut. (That numbers of batches are missing is normal here: compaction removes volumes.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from dwd.base.errors import Corrupt
from dwd.blocks.volumes.fragment import FRAME_FRAGMENT, FRAME_TOMBSTONE, FragmentKey, decode_head, decode_keys
from dwd.blocks.volumes.index import Checkpoint, FragmentIndex, Place
from dwd.journal.appender import FIRST_TAIL, Tail
from dwd.journal.frames import FrameHeader
from dwd.journal.scan import ScannedBatch, SegmentScan
from dwd.journal.segments import HEADER_BYTES, decode_header
from dwd.runtime.files import File, Files

FLUSH_CHANGES = 20_000

_log = structlog.get_logger("dwd.blocks")

Change = tuple[FragmentKey, Place | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    tail: Tail
    scanned_batches: int
    damaged: int
    """Places where fragments were lost."""
    from_nothing: bool
    """There was no index that told what should be here."""


def volume_name(segment: int) -> str:
    return f"volume-{segment:010d}"


def volume_paths(files: Files, directory: Path) -> dict[int, Path]:
    """The volumes there are, by number."""
    names = [n for n in files.list(directory) if n.startswith("volume-") and n[7:].isdigit()]
    return {int(name[7:]): directory / name for name in names}


def recover(files: Files, directory: Path, journal: bytes, index: FragmentIndex) -> Recovered:
    """Bring `index` up to the end of the volumes and cut what is torn. Raises StorageFailed, VersionRefused."""
    paths = volume_paths(files, directory)
    checkpoint = index.checkpoint()
    if (
        checkpoint is None
        or (checkpoint.segment not in paths and checkpoint.offset)
        or set(index.segments()) - set(paths)
    ):
        index.clear()
        checkpoint = None
    return _Scan(files, paths, journal, index).run(checkpoint)


def changes_of_frame(frame: FrameHeader, payload: memoryview) -> Iterator[Change]:
    """What one frame does to the index. Raises Corrupt, VersionRefused."""
    if frame.kind == FRAME_TOMBSTONE:
        yield from ((key, None) for key in decode_keys(payload))
    elif frame.kind == FRAME_FRAGMENT:
        head = decode_head(payload)
        yield head.key, Place(frame.position.segment, frame.position.offset, head.size, head.length)


class _Scan:
    def __init__(self, files: Files, paths: Mapping[int, Path], journal: bytes, index: FragmentIndex) -> None:
        self._files, self._paths, self._journal, self._index = files, paths, journal, index
        self._changes: dict[FragmentKey, Place | None] = {}
        self._batches = self._damaged = 0
        self._tail = FIRST_TAIL

    def run(self, checkpoint: Checkpoint | None) -> Recovered:
        if checkpoint is not None:
            self._tail = Tail(
                segment=checkpoint.segment, offset=checkpoint.offset, sequence=checkpoint.sequence
            )  # fmt: skip
        for segment in sorted(self._paths):
            if checkpoint is None or segment >= checkpoint.segment:
                resumed = checkpoint is not None and segment == checkpoint.segment and checkpoint.offset > 0
                self._volume(segment, resumed=resumed)
        self._flush()
        return Recovered(
            tail=self._tail,
            scanned_batches=self._batches,
            damaged=self._damaged,
            from_nothing=checkpoint is None,
        )

    def _volume(self, segment: int, *, resumed: bool) -> None:
        last = segment == max(self._paths)
        with contextlib.closing(self._files.open(self._paths[segment])) as file:
            if resumed:
                offset, sequence = self._tail.offset, self._tail.sequence
            else:
                offset, sequence = HEADER_BYTES, self._first_sequence(file, segment)
            if sequence:
                self._batches_of(file, segment, offset, sequence, last=last)
                return
        if last:
            self._drop_unfinished(segment)

    def _first_sequence(self, file: File, segment: int) -> int:
        """0: the header is not to be trusted."""
        try:
            header = decode_header(file.read_at(0, HEADER_BYTES))
        except Corrupt:
            _log.warning("volume header is damaged", volume=segment)
            self._damaged += 1
            follows = self._tail.segment == segment - 1 and self._tail.offset > 0
            return self._tail.sequence if follows else 0
        if header.journal != self._journal or header.segment != segment:
            raise Corrupt("blocks.volume_foreign", f"volume {segment} belongs to another device", volume=segment)
        return header.first_sequence

    def _batches_of(self, file: File, segment: int, offset: int, sequence: int, *, last: bool) -> None:
        scan = SegmentScan(file, journal=self._journal, segment=segment, sequence=sequence, offset=offset)
        for found in scan:
            if isinstance(found, ScannedBatch):
                self._batches += 1
                self._apply(found)
                if len(self._changes) >= FLUSH_CHANGES:
                    self._tail = Tail(segment=segment, offset=found.head.end, sequence=found.head.sequence + 1)
                    self._flush()
                continue
            self._damaged += 1
            _log.warning("volume is damaged", volume=segment, offset=found.offset, torn=last and found.later is None)
            if last and found.later is None:
                file.truncate(found.offset)
                file.sync()
        self._tail = Tail(segment=segment, offset=scan.offset, sequence=scan.sequence)

    def _apply(self, batch: ScannedBatch) -> None:
        for frame, payload in zip(batch.head.frames, batch.payloads, strict=True):
            try:
                self._changes.update(changes_of_frame(frame, payload))
            except Corrupt as error:
                self._damaged += 1
                _log.warning("volume holds an unreadable fragment", sequence=batch.head.sequence, error=str(error))

    def _flush(self) -> None:
        tail = self._tail
        at = Checkpoint(segment=tail.segment, offset=tail.offset, sequence=tail.sequence)
        self._index.flush(list(self._changes.items()), at)
        self._changes.clear()

    def _drop_unfinished(self, segment: int) -> None:
        """The power went while the volume was made: it holds nothing, and its number is used again."""
        self._files.remove(self._paths[segment])
        self._tail = Tail(segment=segment, offset=0, sequence=self._tail.sequence)
