"""Notices that a directory is an older copy of what this node last ran with: restored, rolled back, an old disk.

Each start writes a new token into the directory and, beside the identity, which token it must hold from then on. An
older copy holds an older token. Its log lacks entries and votes that this node may have acknowledged, its devices
lack fragments: the log is then distrusted as after a cut tail (dwd.raft.core.doubt), the devices are recounted.

    identity_dir/starts.json   {directory: [tokens that count as current]}; two while one replaces the other
    DIRECTORY/started          the token

Hazard: a directory put back to a moment *since* the node's last start looks current. Roll back a disk of a stopped
node only together with emptying it.
"""

from __future__ import annotations

import json
from pathlib import Path

import structlog

from dwd.base.clock import Rng
from dwd.base.errors import DwError
from dwd.node.paths import Paths
from dwd.runtime.files import Files
from dwd.runtime.private_files import write_private

MARK = "started"
TOKEN_BYTES = 16
_log = structlog.get_logger("dwd.node")


class Starts:
    def __init__(self, paths: Paths, files: Files, rng: Rng) -> None:
        self._record = paths.starts
        self._files = files
        self._rng = rng
        self._current = _load(paths.starts)

    def is_old(self, directory: Path) -> bool:
        """Asked before anything in it is used. A directory that was never seen here is believed."""
        known = self._current.get(str(directory))
        old = known is not None and self._present(directory) not in known
        if old:
            _log.warning("directory is an older copy of what this node last ran with", path=str(directory))
        return old

    def renew(self, directory: Path) -> None:
        """The directory is this node's newest from now on: call it once whatever follows from `is_old` is durable.
        Raises StorageFailed.
        """
        present, new = self._present(directory), self._rng.token_bytes(TOKEN_BYTES).hex()
        self._save(directory, [present, new])
        self._files.write_durably(directory / MARK, new.encode() + b"\n")
        self._save(directory, [new])

    def forget(self, directory: Path) -> None:
        """What was there is given up; what is there now is new."""
        if self._current.pop(str(directory), None) is not None:
            self._write()

    def _present(self, directory: Path) -> str:
        try:
            return self._files.read(directory / MARK).decode(errors="replace").strip()
        except DwError:
            return ""

    def _save(self, directory: Path, tokens: list[str]) -> None:
        self._current[str(directory)] = tokens
        self._write()

    def _write(self) -> None:
        write_private(self._record, json.dumps(self._current, indent=2, sort_keys=True).encode() + b"\n")


def _load(path: Path) -> dict[str, list[str]]:
    """What is recorded; nothing when it cannot be read: then every directory is believed, as by an older daemon."""
    try:
        document = json.loads(path.read_text())
        return {str(directory): [str(token) for token in tokens] for directory, tokens in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
