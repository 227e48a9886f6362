"""A state machine over a dict. Commands are `key=value`; the result is the value that was there before."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from dwd.base.errors import Corrupt, NoSpace, StorageFailed
from dwd.base.ids import LogIndex, Stamp, Term
from dwd.raft.core.configuration_codec import decode_configuration, encode_configuration
from dwd.raft.core.types import EMPTY_SNAPSHOT, Entry, EntryKind, SnapshotMeta
from dwd.raft.ports import Scan, StateHash


class DictDisk:
    """What a machine keeps through a restart."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.position = EMPTY_SNAPSHOT
        self.quarantine: str | None = None


class DictMachine:
    """`poison` makes the command of that key raise Corrupt; `padding` gives copies a size, and each another content."""

    def __init__(self, disk: DictDisk, *, poison: str = "poison", padding: int = 0) -> None:
        self.disk = disk
        self.batches: list[int] = []
        self.installed = 0
        self.copies = 0
        self.closed = False
        self.rested = 0
        self.reader_blocks = False
        self.storage_failed = False
        self.full = False
        self.checkpoint_full = False
        self.checkpoints = 0
        self.gate = threading.Event()
        self.gate.set()
        self._poison = poison
        self._padding = padding
        self._busy = threading.Lock()
        self._state = threading.Lock()

    def position(self) -> SnapshotMeta:
        return self.disk.position

    def apply(self, entries: Sequence[Entry]) -> Sequence[object]:
        assert self._busy.acquire(blocking=False), "two calls at once"
        try:
            assert self.gate.wait(10)
            if self.storage_failed:
                raise StorageFailed("test.disk", "told to fail")
            if self.full:
                raise NoSpace("test.full", "told to be full")
            self.batches.append(len(entries))
            with self._state:
                return [self._apply_one(entry) for entry in entries]
        finally:
            self._busy.release()

    def _apply_one(self, entry: Entry) -> object:
        assert entry.index == self.disk.position.index + 1, "applied out of order"
        configuration = self.disk.position.configuration
        result: object = None
        if entry.kind is EntryKind.CONFIGURATION:
            configuration = decode_configuration(entry.payload)
        elif entry.kind is EntryKind.COMMAND:
            key, _, value = entry.payload.decode().partition("=")
            if key == self._poison:
                raise Corrupt("test.poison", "told to break")
            result = self.disk.values.get(key)
            self.disk.values[key] = value
        self.disk.position = SnapshotMeta(
            index=entry.index, term=entry.term, stamp=entry.stamp, configuration=configuration
        )
        return result

    def checkpoint(self) -> LogIndex | None:
        self.checkpoints += 1
        if self.checkpoint_full:
            raise NoSpace("test.full", "told to be full")
        return None if self.reader_blocks else self.disk.position.index

    def copy_snapshot(self, target: Path) -> SnapshotMeta:
        with self._state:
            at, values = self.disk.position, dict(self.disk.values)
        self.copies += 1
        target.write_text(
            json.dumps(
                {
                    "values": values,
                    "position": [at.index, at.term, at.stamp],
                    "members": encode_configuration(at.configuration).hex(),
                    "padding": f"{at.index:016x}" * (self._padding // 16),
                }
            )
        )
        return at

    def rest(self) -> None:
        self.rested += 1

    def install_snapshot(self, source: Path, expected: SnapshotMeta) -> None:
        content = json.loads(source.read_text())
        index, term, stamp = content["position"]
        position = SnapshotMeta(
            index=LogIndex(index),
            term=Term(term),
            stamp=Stamp(stamp),
            configuration=decode_configuration(bytes.fromhex(content["members"])),
        )
        if position != expected:
            raise Corrupt("test.snapshot", "not the snapshot that was announced")
        self.disk.values, self.disk.position, self.disk.quarantine = content["values"], position, None
        self.installed += 1
        source.unlink()

    def state_hash(self, index: LogIndex | None = None) -> StateHash | None:
        del index
        return None

    def scan(self, rows_max: int) -> Scan:
        return Scan(finished=True, rows=min(rows_max, len(self.disk.values)))

    def quarantine(self, reason: str) -> None:
        self.disk.quarantine = reason

    def version(self) -> int:
        return 1

    def quarantined(self) -> str | None:
        return self.disk.quarantine

    def close(self) -> None:
        self.closed = True
