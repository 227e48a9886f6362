"""Volumes opened for reading, kept open, closed when nobody reads in them any more.

Hazard: a file closed under a reader's hands gives its number to the next file opened: the reader would read that one.
Threads: all methods may be called on any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dwd.runtime.files import File, Files

OPEN_FILES_MAX = 64


@dataclass(slots=True)
class _Open:
    file: File
    readers: int = 0
    retired: bool = False


class OpenFiles:
    def __init__(self, files: Files, path: Callable[[int], Path]) -> None:
        self._files, self._path = files, path
        self._open: dict[int, _Open] = {}
        self._lock = threading.Lock()

    @contextmanager
    def reading(self, segment: int) -> Iterator[File]:
        """The volume's file while one reads in it. Raises StorageFailed."""
        with self._lock:
            entry = self._open.get(segment)
            if entry is None:
                while len(self._open) >= OPEN_FILES_MAX:
                    self._retire(next(iter(self._open)))
                entry = self._open[segment] = _Open(self._files.open(self._path(segment), writable=False))
            entry.readers += 1
        try:
            yield entry.file
        finally:
            with self._lock:
                entry.readers -= 1
                if entry.retired and not entry.readers:
                    entry.file.close()

    def forget(self, segment: int) -> None:
        """Nobody will open this volume again."""
        with self._lock:
            if segment in self._open:
                self._retire(segment)

    def close(self) -> None:
        with self._lock:
            for segment in list(self._open):
                self._retire(segment)

    def _retire(self, segment: int) -> None:
        entry = self._open.pop(segment)
        entry.retired = True
        if not entry.readers:
            entry.file.close()
