"""Volumes as segments of a journal: how large, where, and how far the newest is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dwd.blocks.volumes.recovery import volume_name
from dwd.journal.appender import Tail
from dwd.journal.frames import Frame


@dataclass(slots=True)
class Note:
    """Travels with a submission to the writer's thread and brings back where its batch ended."""

    tail: Tail | None = None


class VolumePolicy:
    """Volumes as segments of a journal."""

    def __init__(self, directory: Path, *, volume_bytes: int, allocate_bytes: int) -> None:
        self._directory = directory
        self._volume_bytes = volume_bytes
        self._allocate_bytes = allocate_bytes
        self.tail: Callable[[], Tail] | None = None

    @property
    def segment_bytes(self) -> int:
        return self._volume_bytes

    @property
    def allocate_bytes(self) -> int:
        return self._allocate_bytes

    def path(self, segment: int) -> Path:
        return self._directory / volume_name(segment)

    def header_content(self, segment: int) -> bytes:  # noqa: ARG002 - the header's number says it all
        return b""

    def opening(self, segment: int) -> Sequence[Frame]:  # noqa: ARG002 - volumes stand alone
        return ()

    def committed(self, notes: Sequence[object]) -> None:
        tail = self.tail() if self.tail is not None else None
        for note in notes:
            if isinstance(note, Note):
                note.tail = tail
