"""Small journals over twins of the file port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dwd.base.units import KIB
from dwd.journal.appender import FIRST_TAIL, Appender, Tail
from dwd.journal.frames import Frame
from dwd.journal.recovery import Damage, Recovery, SegmentBegun
from dwd.journal.scan import ScannedBatch
from dwd.runtime.files import Files

DIRECTORY = Path("/j")
JOURNAL = b"0123456789abcdef"


@dataclass
class Policy:
    """Notes everything it is told."""

    segment_bytes: int = 64 * KIB
    allocate_bytes: int = 64 * KIB
    openings: Sequence[Frame] = ()
    notes: list[object] = field(default_factory=list)

    def path(self, segment: int) -> Path:
        return DIRECTORY / f"{segment:04d}"

    def header_content(self, segment: int) -> bytes:
        return b"test"

    def opening(self, segment: int) -> Sequence[Frame]:
        return self.openings

    def committed(self, notes: Sequence[object]) -> None:
        self.notes += notes


def frame(content: bytes, group: int = 1) -> Frame:
    return Frame(kind=1, group=group, replica=1, pieces=(content,))


def appender(files: Files, policy: Policy | None = None, tail: Tail = FIRST_TAIL) -> Appender:
    files.make_directory(DIRECTORY)
    return Appender(files=files, policy=policy or Policy(), journal=JOURNAL, tail=tail)


def recover(files: Files) -> Recovery:
    return Recovery(files, {int(name): DIRECTORY / name for name in files.list(DIRECTORY)})


def events(recovery: Recovery) -> list[bytes | Damage]:
    """First payload of each batch, and damages."""
    found: list[bytes | Damage] = []
    for event in recovery:
        match event:
            case ScannedBatch():
                found.append(bytes(event.payloads[0]))
            case Damage():
                found.append(event)
            case SegmentBegun():
                pass
    return found
