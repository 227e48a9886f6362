"""What stands in the place of a state machine on a witness: a position, and nothing on disk.

After a restart it stands where the log begins, and what the log still holds is passed over once more. It is always
"checkpointed": how far a witness's log may be cut is another question (`dwd.raft.core.witness`), which compaction asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dwd.base.errors import InvariantViolation, NotFound
from dwd.base.ids import LogIndex
from dwd.raft.core.configuration_codec import decode_configuration
from dwd.raft.core.types import Entry, EntryKind, SnapshotMeta
from dwd.raft.ports import Scan, StateHash


class WitnessMachine:
    """Implements `StateMachine`."""

    def __init__(self, position: SnapshotMeta) -> None:
        self._position = position

    def position(self) -> SnapshotMeta:
        return self._position

    def apply(self, entries: Sequence[Entry]) -> Sequence[object]:
        for entry in entries:
            configuration = self._position.configuration
            if entry.kind is EntryKind.CONFIGURATION:
                configuration = decode_configuration(entry.payload)
            self._position = SnapshotMeta(
                index=entry.index, term=entry.term, stamp=entry.stamp, configuration=configuration
            )
        return [None] * len(entries)

    def checkpoint(self) -> LogIndex | None:
        return self._position.index

    def copy_snapshot(self, target: Path) -> SnapshotMeta:
        del target
        raise NotFound("raft.witness", "a witness holds no data to copy")

    def install_snapshot(self, source: Path, expected: SnapshotMeta) -> None:
        """Nothing to be read: the position is the whole snapshot."""
        del source
        self._position = replace(expected)

    def state_hash(self, index: LogIndex | None = None) -> StateHash | None:
        del index
        return None

    def scan(self, rows_max: int) -> Scan:
        del rows_max
        return Scan(finished=True, rows=0)

    def quarantine(self, reason: str) -> None:
        raise InvariantViolation(f"a witness has no state to distrust: {reason}")

    def version(self) -> int:
        return 0

    def quarantined(self) -> str | None:
        return None

    def rest(self) -> None:
        pass

    def close(self) -> None:
        return None
