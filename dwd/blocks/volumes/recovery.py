"""Reading volumes back at start: what the index does not know yet, and where the next batch goes.

Volumes are scanned from the index's checkpoint, so a normal start reads only the tail. A damaged place costs the
fragments in it and nothing else: they are simply not there, and repair rebuilds them from the other devices. A torn
end is cut, unless fragments in it are sound. A volume that is gone or shorter than the index knows loses what lay
there. (That numbers of batches are missing is normal here: compaction removes volumes.)

Hazard: after a crash of the process alone the page cache shows batches whose sync never happened or failed. The last
volume is synced and dropped from the cache before what it holds is believed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from dwd.base.errors import Corrupt
from dwd.blocks.volumes.fragment import FRAME_FRAGMENT, FRAME_TOMBSTONE, FragmentKey, decode_head, decode_keys
from dwd.blocks.volumes.index import Checkpoint, FragmentIndex, Place
from dwd.journal.appender import FIRST_TAIL, Tail
from dwd.journal.frames import FrameHeader, aligned
from dwd.journal.scan import Gap, ScannedBatch, SegmentScan
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


def recover(files: Files, directory: Path, journal: bytes, index: FragmentIndex, *, writable: bool = True) -> Recovered:
    """Bring `index` up to the end of the volumes and cut what is torn; nothing is changed on the device unless
    `writable`. Raises StorageFailed (IndexDamaged), VersionRefused, Corrupt.
    """
    paths = volume_paths(files, directory)
    checkpoint = index.checkpoint()
    if checkpoint is None:
        index.clear()
    elif writable and paths:
        _settle(files, paths[max(paths)])
    return _Scan(files, paths, journal, index, writable=writable).run(checkpoint)


def changes_of_frame(frame: FrameHeader, payload: memoryview) -> Iterator[Change]:
    """What one frame does to the index. Raises Corrupt, VersionRefused."""
    if frame.kind == FRAME_TOMBSTONE:
        yield from ((key, None) for key in decode_keys(payload))
    elif frame.kind == FRAME_FRAGMENT:
        head = decode_head(payload)
        yield head.key, Place(frame.position.segment, frame.position.offset, head.size, head.length)


def first_sequence(page: bytes, *, journal: bytes, segment: int) -> int | None:
    """What a volume's header page says of its first batch; None: it is damaged, and any batch may come first. Raises
    Corrupt blocks.volume_foreign: it is another device's.
    """
    try:
        header = decode_header(page)
    except Corrupt:
        return None
    if header.journal != journal or header.segment != segment:
        raise Corrupt("blocks.volume_foreign", f"volume {segment} belongs to another device", volume=segment)
    return header.first_sequence


def _settle(files: Files, path: Path) -> None:
    with contextlib.closing(files.open(path)) as file:
        file.sync()
        file.drop_cache(0, 0)


class _Scan:
    def __init__(
        self, files: Files, paths: Mapping[int, Path], journal: bytes, index: FragmentIndex, *, writable: bool
    ) -> None:
        self._files, self._paths, self._journal, self._index = files, paths, journal, index
        self._writable = writable
        self._changes: dict[FragmentKey, Place | None] = {}
        self._batches = self._damaged = 0
        self._tail = FIRST_TAIL

    def run(self, checkpoint: Checkpoint | None) -> Recovered:
        resume_at = 0
        if checkpoint is not None:
            resume_at = self._resume(checkpoint)
        for segment in sorted(self._paths):
            if checkpoint is None or segment >= checkpoint.segment:
                resumed = checkpoint is not None and segment == checkpoint.segment
                self._volume(segment, resume_at if resumed else 0)
        self._flush()
        return Recovered(
            tail=self._tail,
            scanned_batches=self._batches,
            damaged=self._damaged,
            from_nothing=checkpoint is None,
        )

    def _resume(self, checkpoint: Checkpoint) -> int:
        """Forget what is no longer there; where scanning goes on in the checkpoint's volume, 0: at its beginning."""
        sizes = {segment: self._size(path) for segment, path in self._paths.items()}
        for segment, use in self._index.uses().items():
            size = sizes.get(segment, 0)
            if use.end > size:
                lost = self._index.drop_lying(segment, size)
                self._damaged += max(1, lost)
                _log.warning("volume is gone or cut short", volume=segment, bytes=size, fragments_lost=lost)
        here = sizes.get(checkpoint.segment)
        self._tail = Tail(segment=checkpoint.segment, offset=0, sequence=checkpoint.sequence)
        if here is None or checkpoint.offset > here:
            self._damaged += checkpoint.offset > 0
            return 0
        self._tail = Tail(segment=checkpoint.segment, offset=checkpoint.offset, sequence=checkpoint.sequence)
        return checkpoint.offset

    def _size(self, path: Path) -> int:
        with contextlib.closing(self._files.open(path, writable=False)) as file:
            return file.size()

    def _volume(self, segment: int, resume_at: int) -> None:
        last = segment == max(self._paths)
        with contextlib.closing(self._files.open(self._paths[segment], writable=self._writable)) as file:
            offset, sequence = resume_at, self._tail.sequence if resume_at else None
            headed = True
            if not resume_at:
                offset = HEADER_BYTES
                sequence = first_sequence(
                    file.read_at(0, HEADER_BYTES), journal=self._journal, segment=segment
                )  # fmt: skip
                headed = sequence is not None
            found = self._batches_of(file, segment, offset, sequence, last=last)
        if headed:
            return
        if found:
            self._damaged += 1
            _log.warning("volume header is damaged", volume=segment)
            self._tail = Tail(segment=segment + 1, offset=0, sequence=self._tail.sequence)
        elif last:
            self._drop_unfinished(segment)

    def _batches_of(self, file: File, segment: int, offset: int, sequence: int | None, *, last: bool) -> int:
        """How many batches there are."""
        before, known = self._batches, self._tail.sequence
        scan = SegmentScan(file, journal=self._journal, segment=segment, sequence=sequence, offset=offset)
        tail: Tail | None = None
        for found in scan:
            if isinstance(found, ScannedBatch):
                self._batches += 1
                self._apply(zip(found.head.frames, found.payloads, strict=True))
                if len(self._changes) >= FLUSH_CHANGES:
                    self._tail = Tail(segment=segment, offset=found.head.end, sequence=found.head.sequence + 1)
                    self._flush()
                continue
            if sequence is None and found.offset == HEADER_BYTES:
                continue  # the first batch was looked for
            self._damaged += 1
            torn = last and found.later is None
            _log.warning("volume is damaged", volume=segment, offset=found.offset, torn=torn)
            self._apply(found.sound)
            if torn:
                tail = self._after_tear(file, segment, found)
        self._tail = tail or Tail(segment=segment, offset=scan.offset, sequence=max(scan.sequence, known))
        return self._batches - before

    def _after_tear(self, file: File, segment: int, gap: Gap) -> Tail | None:
        """Cut the bad final batch; what is sound in it may have been acknowledged before it rotted, and stays."""
        if gap.sound:
            frames = (*(gap.damaged or ()), *(frame for frame, _ in gap.sound))
            end = max(frame.position.offset + frame.position.length for frame in frames)
            return Tail(segment=segment, offset=aligned(end), sequence=gap.sequence + 1)
        if self._writable:
            file.truncate(gap.offset)
            file.sync()
        return None

    def _apply(self, frames: Iterable[tuple[FrameHeader, memoryview]]) -> None:
        for frame, payload in frames:
            try:
                self._changes.update(changes_of_frame(frame, payload))
            except Corrupt as error:
                self._damaged += 1
                _log.warning("volume holds an unreadable fragment", offset=frame.position.offset, error=str(error))

    def _flush(self) -> None:
        tail = self._tail
        at = Checkpoint(segment=tail.segment, offset=tail.offset, sequence=tail.sequence)
        self._index.flush(list(self._changes.items()), at)
        self._changes.clear()

    def _drop_unfinished(self, segment: int) -> None:
        """The power went while the volume was made: it holds nothing, and its number is used again."""
        if self._writable:
            self._files.remove(self._paths[segment])
        self._tail = Tail(segment=segment, offset=0, sequence=self._tail.sequence)
