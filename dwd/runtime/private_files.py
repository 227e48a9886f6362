"""Files with a mode of their own: keys, certificates and what else only its owner may read.

Not through the Files port, which knows no modes: a key must not be readable by others for an instant.
"""

from __future__ import annotations

import os
from pathlib import Path

from dwd.runtime.os_files import translated

PRIVATE = 0o600
PRIVATE_DIRECTORY = 0o700


def write_private(path: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Replace `path` durably, there as a whole or not at all; a directory made for it is its owner's alone.

    Raises StorageFailed, NoSpace.
    """
    try:
        path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.new")
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError as error:
        raise translated(error, f"writing {path}") from error
