"""What makes a directory a device: its marker file, and the lock of the daemon that uses it.

    dwd-device.json    {"format": 1, "cluster": id, "device": hex id, "journal": hex of the id in every volume's header}
    lock               flocked by the daemon that uses it

Hazard: an unmounted disk leaves an empty directory behind. Writing there would fill the root disk and lose the data
once the mount comes back, so a missing marker means *failed*; only `format_device`, called on purpose, makes one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dwd.base.clock import Rng
from dwd.base.errors import AlreadyExists, Conflict, Corrupt, DwError, StorageFailed, VersionRefused
from dwd.base.ids import ID_BITS, ClusterId, DeviceId, hex_id, parse_hex_id
from dwd.journal.segments import JOURNAL_ID_BYTES
from dwd.runtime.files import Files

MARKER = "dwd-device.json"
LOCK = "lock"
FORMAT = 1


class Lock(Protocol):
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    cluster: ClusterId
    device: DeviceId
    journal: bytes


def read_marker(files: Files, path: Path, cluster: ClusterId) -> Marker:
    """Raises StorageFailed blocks.device_missing (no directory or marker), Corrupt, VersionRefused (other cluster)."""
    if not files.exists(path / MARKER):
        raise StorageFailed(
            "blocks.device_missing",
            f"{path} holds no {MARKER}: not mounted, or never formatted",
            hint="mount the disk; to use an empty directory as a new device, let the node adopt it",
        )
    try:
        raw = json.loads(files.read(path / MARKER))
        marker = Marker(
            cluster=ClusterId(raw["cluster"]), device=DeviceId(parse_hex_id(raw["device"])),
            journal=bytes.fromhex(raw["journal"]),
        )  # fmt: skip
        version = int(raw["format"])
    except (ValueError, KeyError, TypeError, DwError) as error:
        raise Corrupt("blocks.device_marker", f"{path / MARKER} cannot be read") from error
    if version > FORMAT:
        raise VersionRefused("blocks.device_format", f"{path} has format {version}, this daemon reads up to {FORMAT}")
    if marker.cluster != cluster:
        raise VersionRefused(
            "blocks.device_cluster",
            f"{path} belongs to cluster {marker.cluster}, this node to {cluster}",
            hint="check the device path, or empty the directory if its data is not needed",
        )
    return marker


def format_device(files: Files, path: Path, cluster: ClusterId, rng: Rng) -> Marker:
    """Make an empty (or new) directory a device of a new id. Raises AlreadyExists: there is something in it."""
    if files.exists(path) and [name for name in files.list(path) if name != "lost+found"]:
        raise AlreadyExists("blocks.device_not_empty", f"{path} is not empty", hint="choose an empty directory")
    marker = Marker(
        cluster=cluster, device=DeviceId(rng.bits(ID_BITS) or 1), journal=rng.token_bytes(JOURNAL_ID_BYTES)
    )  # fmt: skip
    files.make_directory(path / "volumes")
    files.sync_directory(path)
    content = {
        "format": FORMAT, "cluster": cluster, "device": hex_id(marker.device), "journal": marker.journal.hex()
    }  # fmt: skip
    files.write_durably(path / MARKER, json.dumps(content).encode())
    return marker


class _FileLock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)


def lock_directory(path: Path) -> Lock:
    """Raises Conflict blocks.device_locked, StorageFailed."""
    try:
        try:
            descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            descriptor = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFailed("blocks.device_lock", f"{path} cannot be locked: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Conflict("blocks.device_locked", f"{path} is in use by another daemon") from error
    return _FileLock(descriptor)
