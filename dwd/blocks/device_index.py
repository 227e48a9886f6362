"""Where a device's index lies, and how it is made anew."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import structlog

from dwd.base.ids import DeviceId, hex_id
from dwd.blocks.device_facts import DeviceOptions
from dwd.blocks.volumes.index import FragmentIndex, IndexDamaged

INDEX = "index.sqlite"
_log = structlog.get_logger("dwd.blocks")


@dataclass(frozen=True, slots=True)
class IndexPlace:
    """Of one device. Its methods block."""

    directory: Path
    device: DeviceId
    journal: bytes
    options: DeviceOptions
    read_only: bool

    def open(self) -> tuple[FragmentIndex, bool]:
        """And whether it had to be made anew. Raises StorageFailed."""
        try:
            return FragmentIndex(self._path(), self.journal, vfs=self.options.vfs), False
        except IndexDamaged as error:
            _log.warning("fragment index is damaged and will be rebuilt", device=hex_id(self.device), error=str(error))
            return self.make_anew(), True

    def make_anew(self) -> FragmentIndex:
        """Empty; opening the volumes fills it."""
        path = self._path()
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(path + suffix).unlink()
        return FragmentIndex(path, self.journal, vfs=self.options.vfs)

    def _path(self) -> str:
        """On a read-only device the index cannot be kept where it is: it is made in a scratch place."""
        if not self.read_only:
            return str(self.directory / INDEX)
        if self.options.scratch is None:
            return ":memory:"
        self.options.scratch.mkdir(parents=True, exist_ok=True)
        return str(self.options.scratch / f"{hex_id(self.device)}.sqlite")
