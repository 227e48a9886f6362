"""Giving space back: a volume of which less than half lives is copied to the end and removed.

The copies are ordinary appends; a fragment deleted or replaced meanwhile keeps what happened to it. Tombstones are
copied too while an older volume exists that may still hold what they delete.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dwd.base.units import MIB
from dwd.blocks.volumes.fragment import FRAME_FRAGMENT, FRAME_TOMBSTONE, FragmentKey, encode_keys
from dwd.blocks.volumes.index import Place
from dwd.blocks.volumes.recovery import changes_of_frame, volume_paths
from dwd.blocks.volumes.volumes import Volumes
from dwd.journal.frames import Frame, Position
from dwd.journal.scan import Gap, ScannedBatch, SegmentScan
from dwd.journal.segments import HEADER_BYTES, decode_header
from dwd.runtime.files import Buffer, File

LIVE_SHARE_MIN = 0.5
COPY_BYTES = 4 * MIB
"""Appended at a time."""
TOMBSTONES_MAX = 4_096


@dataclass(slots=True)
class _Piece:
    """What one step moves."""

    copies: list[tuple[FragmentKey, Place, Buffer]]
    tombstones: list[FragmentKey]


async def sparse_volume(volumes: Volumes, *, live_share_min: float = LIVE_SHARE_MIN) -> int | None:
    """The emptiest full volume below the share; None: there is none."""
    await volumes.flush()
    newest = volumes.tail.segment

    def look() -> int | None:
        live = volumes.index.live()
        shares = []
        for segment in volume_paths(volumes.files, volumes.directory):
            if segment < newest:
                share = live.get(segment, (0, 0))[1] / volumes.policy.segment_bytes
                shares.append((share, segment))
        share, segment = min(shares, default=(1.0, 0))
        return segment if share < live_share_min else None

    return await volumes.run(look)


async def compact(volumes: Volumes, segment: int) -> int:
    """Move what lives in the volume and remove it; bytes copied. Raises NoSpace, StorageFailed: nothing is lost."""
    copied = 0
    async with volumes.maintenance:
        file = await volumes.run(lambda: volumes.files.open(volumes.policy.path(segment)))
        with contextlib.closing(file):
            oldest = await volumes.run(lambda: min(volume_paths(volumes.files, volumes.directory)))
            batches = await volumes.run(lambda: _batches(volumes, file, segment))
            while (piece := await volumes.run(lambda: _gather(volumes, batches, segment > oldest))) is not None:
                copied += await _append(volumes, piece)
    await volumes.flush()
    await volumes.run(lambda: volumes.remove(segment))
    return copied


def _batches(volumes: Volumes, file: File, segment: int) -> Iterator[ScannedBatch | Gap]:
    header = decode_header(file.read_at(0, HEADER_BYTES))
    return iter(SegmentScan(file, journal=volumes.journal, segment=segment, sequence=header.first_sequence))


def _gather(volumes: Volumes, batches: Iterator[ScannedBatch | Gap], keep_tombstones: bool) -> _Piece | None:
    """The next few megabytes of what lives; None at the end of the volume."""
    piece, size, seen = _Piece(copies=[], tombstones=[]), 0, False
    for batch in batches:
        seen = True
        if not isinstance(batch, ScannedBatch):
            continue
        for frame, payload in zip(batch.head.frames, batch.payloads, strict=True):
            for key, place in changes_of_frame(frame, payload):
                if place is None:
                    if keep_tombstones and volumes.place_of(key) is None:
                        piece.tombstones.append(key)
                elif volumes.place_of(key) == place:
                    piece.copies.append((key, place, payload))
                    size += len(payload)
        if size >= COPY_BYTES or len(piece.tombstones) >= TOMBSTONES_MAX:
            return piece
    return piece if seen else None


async def _append(volumes: Volumes, piece: _Piece) -> int:
    """Append what still holds now that we are on the loop, where nothing can come between."""
    copies = [c for c in piece.copies if not volumes.gone(c[0])]
    tombstones = [key for key in piece.tombstones if not volumes.expected(key)]
    frames = [Frame(kind=FRAME_FRAGMENT, group=0, replica=key.index, pieces=(payload,)) for key, _, payload in copies]
    frames.extend(
        Frame(kind=FRAME_TOMBSTONE, group=0, replica=0, pieces=(encode_keys(tombstones[at : at + TOMBSTONES_MAX]),))
        for at in range(0, len(tombstones), TOMBSTONES_MAX)
    )
    if not frames:
        return 0

    def landed(positions: Sequence[Position]) -> None:
        for (key, old, _), position in zip(copies, positions, strict=False):
            volumes.moved(key, old, Place(position.segment, position.offset, old.head, old.length))

    await volumes.submit(frames, landed)
    return sum(len(payload) for _, _, payload in copies)
