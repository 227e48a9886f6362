"""What the disk itself does: the yardstick that stands beside every number of the cluster.

Same file system as the cluster's data, same run. A write rate is of plain sequential writes that end in one
`fdatasync`, a read rate of the same file afterwards without its cached pages where the system lets go of them; a
latency is of one small overwrite with `fdatasync` in a preallocated file, as a log does it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
CHUNK_BYTES = 4 * MIB
SYNC_BYTES = 4 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """`write_mb_s` in 10^6 bytes a second; sync times of `SYNC_BYTES` in milliseconds."""

    write_mb_s: float
    read_mb_s: float
    sync_ms_p50: float
    sync_ms_p99: float


def measure(folder: Path, *, size: int = 512 * MIB, syncs: int = 100) -> Disk:
    """The best of three, so that a moment's noise of a shared machine does not flatter the cluster."""
    rates = [_rates(folder, size // 3) for _ in range(3)]
    latencies = sorted(_sync_latencies(folder, syncs))
    return Disk(
        write_mb_s=max(write for write, _ in rates),
        read_mb_s=max(read for _, read in rates),
        sync_ms_p50=statistics.median(latencies) * 1e3,
        sync_ms_p99=latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] * 1e3,
    )


def _rates(folder: Path, size: int) -> tuple[float, float]:
    """Of a write and of a read."""
    chunk, into = os.urandom(CHUNK_BYTES), bytearray(CHUNK_BYTES)
    count = max(1, size // CHUNK_BYTES)
    with _scratch(folder) as handle:
        began = time.perf_counter()
        for _ in range(count):
            os.write(handle, chunk)
        os.fdatasync(handle)
        written = time.perf_counter()
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(handle, 0, os.SEEK_SET)
        started = time.perf_counter()
        while os.readv(handle, [into]):
            pass
        read = time.perf_counter()
        return count * CHUNK_BYTES / (written - began) / 1e6, count * CHUNK_BYTES / (read - started) / 1e6


def _sync_latencies(folder: Path, count: int) -> Iterator[float]:
    chunk = os.urandom(SYNC_BYTES)
    with _scratch(folder) as handle:
        os.write(handle, bytes(count * SYNC_BYTES))
        os.fsync(handle)
        for number in range(count):
            began = time.perf_counter()
            os.pwrite(handle, chunk, number * SYNC_BYTES)
            os.fdatasync(handle)
            yield time.perf_counter() - began


@contextmanager
def _scratch(folder: Path) -> Iterator[int]:
    path = folder / "disk.scratch"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)
        path.unlink()
