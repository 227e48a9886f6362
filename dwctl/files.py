"""Writing files that others read at the same time."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: str, *, mode: int = 0o644) -> None:
    """Replace `path` in one step: readers see the old or the new, never a part; `mode` holds from the first instant."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    scratch.replace(path)
