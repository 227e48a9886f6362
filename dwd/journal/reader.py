"""Reading single frames or parts of them by position, each verified."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from dwd.base.errors import Corrupt, StorageFailed
from dwd.journal.checksum import crc32c
from dwd.journal.frames import Position
from dwd.runtime.files import File, Files

OPEN_FILES_MAX = 64


class JournalReader:
    """Positional reads from any thread. Files stay open, the longest unused is closed for a new one."""

    def __init__(self, files: Files, path: Callable[[int], Path], *, open_files_max: int = OPEN_FILES_MAX) -> None:
        self._files = files
        self._path = path
        self._open_files_max = open_files_max
        self._open: OrderedDict[int, File] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, position: Position) -> bytes:
        """The payload at `position`. Raises Corrupt if it is not what was written, StorageFailed."""
        content = self.read_range(position.segment, position.offset, position.length)
        if crc32c(content) != position.crc32c:
            raise Corrupt(
                "journal.frame",
                f"frame at {position.offset} of segment {position.segment} fails its checksum",
                segment=position.segment,
                offset=position.offset,
            )
        return content

    def read_range(self, segment: int, offset: int, length: int) -> bytes:
        """Unverified bytes, for users whose payloads carry finer checksums. Raises Corrupt if the file is shorter."""
        with self._lock:
            # Held while reading, so that no other thread can close the file meanwhile.
            content = self._file(segment).read_at(offset, length)
        if len(content) != length:
            raise Corrupt("journal.short", f"segment {segment} ends before {offset + length}", segment=segment)
        return content

    def forget(self, segment: int) -> None:
        """Close the file of a segment that is about to be removed."""
        with self._lock:
            file = self._open.pop(segment, None)
            if file is not None:
                _close(file)

    def close(self) -> None:
        with self._lock:
            for file in self._open.values():
                _close(file)
            self._open.clear()

    def _file(self, segment: int) -> File:
        file = self._open.get(segment)
        if file is not None:
            self._open.move_to_end(segment)
            return file
        file = self._files.open(self._path(segment))
        self._open[segment] = file
        if len(self._open) > self._open_files_max:
            _, oldest = self._open.popitem(last=False)
            _close(oldest)
        return file


def _close(file: File) -> None:
    with contextlib.suppress(StorageFailed):
        file.close()
