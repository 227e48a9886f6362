"""Giving space back: a volume of which less than half lives is copied to the end and removed.

The copies are ordinary appends; a fragment deleted or replaced meanwhile keeps what happened to it. Tombstones are
copied too while an older volume exists that may still hold what they delete. A fragment that cannot be read is told
of and forgotten: it is worthless here, and repair makes it anew.

Invariant: a volume is removed only when the index knows of nothing in it any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dwd.base.errors import Corrupt
from dwd.base.units import MIB
from dwd.blocks.volumes.fragment import FRAME_FRAGMENT, FRAME_TOMBSTONE, FragmentKey, encode_keys
from dwd.blocks.volumes.index import Place
from dwd.blocks.volumes.recovery import changes_of_frame, first_sequence, volume_paths
from dwd.blocks.volumes.volumes import Volumes
from dwd.journal.frames import Frame, FrameHeader, Position
from dwd.journal.scan import ScannedBatch, SegmentScan
from dwd.journal.segments import HEADER_BYTES
from dwd.runtime.files import Buffer, File

LIVE_SHARE_MIN = 0.5
COPY_BYTES = 4 * MIB
"""Appended at a time, in volumes of the usual size."""
TOMBSTONES_MAX = 4_096
LEFT_MAX = 64
"""Fragments looked at one by one, after the scan did not meet them."""

OnBad = Callable[[FragmentKey, str], None]


@dataclass(slots=True)
class _Piece:
    """What one step moves."""

    copies: list[tuple[FragmentKey, Place, Buffer]]
    tombstones: list[FragmentKey]
    scanned: int


async def sparse_volume(volumes: Volumes, *, live_share_min: float = LIVE_SHARE_MIN) -> int | None:
    """The emptiest full volume below the share; None: there is none."""
    await volumes.flush()
    newest = volumes.tail.segment

    def look() -> int | None:
        uses = volumes.index.uses()
        shares = []
        for segment in volume_paths(volumes.files, volumes.directory):
            if segment < newest:
                use = uses.get(segment)
                shares.append(((use.bytes if use else 0) / volumes.policy.segment_bytes, segment))
        share, segment = min(shares, default=(1.0, 0))
        return segment if share < live_share_min else None

    return await volumes.run(look)


class Compaction:
    """Of one volume, a piece at a time."""

    def __init__(self, volumes: Volumes, segment: int, on_bad: OnBad) -> None:
        self.segment = segment
        self._volumes, self._on_bad = volumes, on_bad
        self._file: File | None = None
        self._frames: Iterator[tuple[FrameHeader, memoryview]] = iter(())
        self._keep_tombstones = False
        self._scanned = False
        self._piece_bytes = min(COPY_BYTES, volumes.policy.segment_bytes // 4)

    async def step(self) -> int | None:
        """Move a few megabytes of what lives; bytes read, None once the volume is removed. Raises NoSpace,
        StorageFailed: nothing is lost, and the same may be tried again.
        """
        volumes = self._volumes
        if self._file is None:
            await volumes.run(self._open)
        if not self._scanned:
            async with volumes.maintenance:
                piece = await volumes.run(self._gather)
                if piece is not None:
                    await _append(volumes, piece)
                    return piece.scanned
                self._scanned = True
        if rescued := await self._rescue():
            return rescued
        self.close()
        await volumes.run(lambda: volumes.remove(self.segment))
        return None

    def close(self) -> None:
        """Give up, or done."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        volumes, segment = self._volumes, self.segment
        self._keep_tombstones = segment > min(volume_paths(volumes.files, volumes.directory))
        self._file = file = volumes.files.open(volumes.policy.path(segment), writable=False)
        begins = first_sequence(file.read_at(0, HEADER_BYTES), journal=volumes.journal, segment=segment)
        self._frames = _frames(SegmentScan(file, journal=volumes.journal, segment=segment, sequence=begins))

    def _gather(self) -> _Piece | None:
        """The next few megabytes of what the scan finds; None at the end of the volume."""
        piece, size, seen = _Piece(copies=[], tombstones=[], scanned=0), 0, False
        for frame, payload in self._frames:
            seen = True
            piece.scanned += len(payload)
            for key, place in _changes(frame, payload):
                if place is None:
                    if self._keep_tombstones and self._volumes.place_of(key) is None:
                        piece.tombstones.append(key)
                elif self._volumes.place_of(key) == place:
                    piece.copies.append((key, place, payload))
                    size += len(payload)
            if max(size, piece.scanned // 4) >= self._piece_bytes or len(piece.tombstones) >= TOMBSTONES_MAX:
                return piece
        return piece if seen else None

    async def _rescue(self) -> int:
        """Move what the index knows and the scan did not meet: its batch is damaged, itself perhaps not. Bytes read,
        0 when nothing is left.
        """
        volumes = self._volumes
        await volumes.flush()
        async with volumes.maintenance:
            piece, bad = await volumes.run(self._look_at_left)
            await _append(volumes, piece)
            if bad:
                _ = await volumes.delete([key for key, _ in bad])
        for key, cause in bad:
            self._on_bad(key, cause)
        return piece.scanned

    def _look_at_left(self) -> tuple[_Piece, list[tuple[FragmentKey, str]]]:
        volumes, piece, bad = self._volumes, _Piece(copies=[], tombstones=[], scanned=0), []
        for key, place in volumes.index.lying(self.segment, 0, LEFT_MAX):
            piece.scanned += place.bytes
            if volumes.place_of(key) != place:
                continue
            try:
                piece.copies.append((key, place, volumes.raw(key, place)))
            except Corrupt as error:
                bad.append((key, error.code))
            if piece.scanned >= self._piece_bytes:
                break
        return piece, bad


async def compact(volumes: Volumes, segment: int, on_bad: OnBad | None = None) -> int:
    """Move what lives in the volume and remove it; bytes read."""
    compaction = Compaction(volumes, segment, on_bad or (lambda _key, _cause: None))
    total = 0
    with contextlib.closing(compaction):
        while (moved := await compaction.step()) is not None:
            total += moved
    return total


def _frames(scan: SegmentScan) -> Iterator[tuple[FrameHeader, memoryview]]:
    for found in scan:
        if isinstance(found, ScannedBatch):
            yield from zip(found.head.frames, found.payloads, strict=True)
        else:
            yield from found.sound


def _changes(frame: FrameHeader, payload: memoryview) -> list[tuple[FragmentKey, Place | None]]:
    try:
        return list(changes_of_frame(frame, payload))
    except Corrupt:
        return []


async def _append(volumes: Volumes, piece: _Piece) -> None:
    """Append what still holds now that we are on the loop, where nothing can come between."""
    copies = [c for c in piece.copies if not volumes.gone(c[0])]
    tombstones = [key for key in piece.tombstones if not volumes.expected(key)]
    frames = [Frame(kind=FRAME_FRAGMENT, group=0, replica=key.index, pieces=(payload,)) for key, _, payload in copies]
    frames.extend(
        Frame(kind=FRAME_TOMBSTONE, group=0, replica=0, pieces=(encode_keys(tombstones[at : at + TOMBSTONES_MAX]),))
        for at in range(0, len(tombstones), TOMBSTONES_MAX)
    )
    if not frames:
        return

    def landed(positions: Sequence[Position]) -> None:
        for (key, old, _), position in zip(copies, positions, strict=False):
            volumes.moved(key, old, Place(position.segment, position.offset, old.head, old.length))

    await volumes.submit(frames, landed)
