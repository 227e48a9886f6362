"""The fence of a device: writes placed by older layouts are refused, of somebody who missed that those retired.

Beside it every shard has a fence (`FenceLayouts`): no row may begin to name a retired layout. That one keeps data
readable; the device's keeps fragments from being written that no row will ever name.

The file `fence.json` of a device: {"epoch": N}. A damaged one counts as none: control tells again at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import structlog

from dwd.base.errors import Conflict
from dwd.base.ids import LayoutEpoch
from dwd.runtime.files import Files

FENCE_FILE = "fence.json"
_log = structlog.get_logger("dwd.blocks")


class Fence:
    """`epoch`: the oldest layout that may place writes. Reading and writing the file blocks."""

    def __init__(self, files: Files, directory: Path) -> None:
        self.epoch = LayoutEpoch(0)
        self._files = files
        self._path = directory / FENCE_FILE

    def load(self) -> None:
        """Raises StorageFailed."""
        if not self._files.exists(self._path):
            return
        try:
            self.epoch = max(self.epoch, LayoutEpoch(int(json.loads(self._files.read(self._path))["epoch"])))
        except (ValueError, KeyError, TypeError):
            _log.warning("the fence of a device is damaged; control tells it again", path=str(self._path))

    def raise_to(self, epoch: LayoutEpoch) -> None:
        """In force at once, durable on return. Raises StorageFailed."""
        self.epoch = max(self.epoch, epoch)
        self._files.write_durably(self._path, json.dumps({"epoch": self.epoch}).encode() + b"\n")

    def check(self, epochs: Iterable[LayoutEpoch]) -> None:
        """Raises Conflict blocks.layout_fenced."""
        if min(epochs) < self.epoch:
            raise Conflict("blocks.layout_fenced", f"layout is older than {self.epoch}", fence=self.epoch)
