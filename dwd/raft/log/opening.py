"""Opening the Raft log: recover, write down what is in doubt, cut, go on.

The order matters. What is in doubt is made durable first, in the opening of a new segment that begins with the number
of the batch to be cut; only then is the bad batch, the evidence, cut away. A crash between the two finds both.

Hazard: after a failed sync the kernel may show bytes the device never got, until they leave the page cache. A node that
stopped for that reason and is started again on the same boot believes what it reads; a device that fails syncs should
be replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dwd.base.clock import Rng
from dwd.base.ids import GroupId
from dwd.journal.appender import Appender, Tail
from dwd.journal.checksum import crc32c
from dwd.journal.recovery import Damage, Recovery, cut, remove_durably, settle
from dwd.journal.segments import HEADER_BYTES, JOURNAL_ID_BYTES
from dwd.raft.log.bounds import LogSegments, parse_segment_name
from dwd.raft.log.index import GroupIndex
from dwd.raft.log.replay import Replay
from dwd.raft.ports import RecoveredLog
from dwd.runtime.files import Files

IDENTITY_NAME = "journal-id"
"""The journal's id and its CRC32C, so that the log can be read even if every header is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A log ready to be written. `segments` are those that opened durably, oldest first."""

    policy: LogSegments
    appender: Appender
    logs: dict[GroupId, RecoveredLog]
    indexes: dict[GroupId, GroupIndex]
    segments: list[int]
    damages: Sequence[Damage]


def open_log(files: Files, directory: Path, rng: Rng, segment_bytes: int, *, distrusted: bool = False) -> Opened:
    """Blocking. `distrusted`: every group comes back in doubt about its tail, and that is durable on return.
    Raises Corrupt, VersionRefused, StorageFailed.
    """
    files.make_directory(directory)
    paths = {n: directory / name for name in files.list(directory) if (n := parse_segment_name(name)) is not None}
    if paths:
        settle(files, paths[max(paths)])
    identity = _read_identity(files, directory)
    recovery = Recovery(files, paths, journal=identity)
    replay = Replay()
    replay.run(recovery)
    if distrusted:
        replay.distrust()
    journal = recovery.journal or rng.token_bytes(JOURNAL_ID_BYTES)
    if identity is None:
        _write_identity(files, directory, journal)
    for path in recovery.unfinished:
        remove_durably(files, path)
    policy = LogSegments(directory, replay.bounds(), segment_bytes=segment_bytes)
    tail = recovery.tail
    fresh_segment = bool(paths) and (distrusted or bool(replay.damages))
    if fresh_segment:
        tail = Tail(segment=max(paths) + 1, offset=0, sequence=tail.sequence)
    appender = Appender(files=files, policy=policy, journal=journal, tail=tail)
    segments = replay.segments
    if fresh_segment:
        appender.begin_segment()
        if recovery.torn is not None:
            cut(files, paths[recovery.torn.segment], recovery.torn)
        segments = [*segments, tail.segment]
    elif tail.offset == HEADER_BYTES:
        segments = segments[:-1]
    return Opened(
        policy=policy,
        appender=appender,
        logs=replay.logs(),
        indexes=replay.indexes(),
        segments=segments,
        damages=replay.damages,
    )


def _read_identity(files: Files, directory: Path) -> bytes | None:
    path = directory / IDENTITY_NAME
    content = files.read(path) if files.exists(path) else b""
    journal, crc = content[:JOURNAL_ID_BYTES], content[JOURNAL_ID_BYTES:]
    if len(journal) == JOURNAL_ID_BYTES and crc == crc32c(journal).to_bytes(4, "big"):
        return journal
    return None


def _write_identity(files: Files, directory: Path, journal: bytes) -> None:
    files.write_durably(directory / IDENTITY_NAME, journal + crc32c(journal).to_bytes(4, "big"))
