"""What the project wants of each figure, and how far a run is from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024
STORED_PER_BYTE = 1.5
"""Bytes that 4+2 writes for one byte of an object."""

PEER, DISK, STREAM, HEALTHY = "SeaweedFS", "disk ÷ 1.5", "gRPC stream", "healthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """At least `ratio` of the yardstick, of objects of at least `size_min` and at most `size_max` bytes."""

    verb: str
    yardstick: str
    ratio: float
    size_min: int
    size_max: int = 1 << 62
    degraded: bool = False

    def covers(self, verb: str, size: int, *, degraded: bool) -> bool:
        return self.verb == verb and self.size_min <= size <= self.size_max and self.degraded == degraded


AIMS: Sequence[Aim] = (
    Aim(verb="put", yardstick=PEER, ratio=1.0, size_min=4 * KIB, size_max=4 * KIB),
    Aim(verb="get", yardstick=PEER, ratio=1.0, size_min=4 * KIB, size_max=4 * KIB),
    Aim(verb="put", yardstick=PEER, ratio=1.5, size_min=64 * KIB, size_max=64 * KIB),
    Aim(verb="get", yardstick=PEER, ratio=0.8, size_min=64 * KIB, size_max=64 * KIB),
    Aim(verb="put", yardstick=PEER, ratio=2.0, size_min=MIB),
    Aim(verb="put", yardstick=DISK, ratio=0.8, size_min=16 * MIB),
    Aim(verb="get", yardstick=PEER, ratio=0.5, size_min=MIB),
    Aim(verb="get", yardstick=STREAM, ratio=0.6, size_min=MIB),
    Aim(verb="get", yardstick=HEALTHY, ratio=0.8, size_min=MIB, degraded=True),
)
"""4 KiB PUT is of five voters."""

MEMORY_MIB_MAX = 400
"""Of one daemon, at concurrency 64 with objects of 128 MiB."""

REBUILD_OF_DISK = 0.5
"""Of the disk's sequential write rate, while a lost node is rebuilt and clients are idle."""
REBUILD_P99_MAX = 2.0
"""Clients' p99 during a rebuild, of theirs before."""
