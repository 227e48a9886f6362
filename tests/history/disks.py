"""A small file system for each node, in memory, so that its disk can really be full. Only where mounting is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

DISK_MIB = 512
_FILLER = "filler"


class SmallDisks:
    """`mount` before anything is in the directories; `unmount` always."""

    def __init__(self) -> None:
        self._places: list[Path] = []

    @property
    def mounted(self) -> bool:
        return bool(self._places)

    def mount(self, places: Sequence[Path]) -> None:
        """All or none."""
        for place in places:
            place.mkdir(parents=True)
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
            if subprocess.run(command, check=False, capture_output=True).returncode != 0:
                self.unmount(keep=False)
                return
            self._places.append(place)

    def fill(self, places: Sequence[Path]) -> None:
        """These are full, all others have their space again."""
        for place in self._places:
            filler = place / _FILLER
            filler.unlink(missing_ok=True)
            if place in places:
                with suppress(OSError), filler.open("wb") as stream:  # somebody else took the rest meanwhile
                    os.posix_fallocate(stream.fileno(), 0, os.statvfs(place).f_bavail * os.statvfs(place).f_frsize)

    def unmount(self, *, keep: bool) -> None:
        places, self._places = self._places, []
        for place in places:
            if keep:
                _ = shutil.copytree(place, place.with_name("data.kept"), ignore=shutil.ignore_patterns(_FILLER))
            _ = subprocess.run(["umount", "--lazy", str(place)], check=True)
