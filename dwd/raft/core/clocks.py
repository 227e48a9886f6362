"""Whose clock is wrong: the judgement over the clocks of a quorum. Pure functions; times are milliseconds.

All clocks are given relative to one and the same scale, which nobody sets: the judging node's monotonic clock. The
median of the clocks that are known, the node's own among them, is the truth. Of an even number the whole stretch
between the two in the middle is: two clocks that differ cannot tell which of them is wrong, so neither is blamed.

Source: raft.md section 4; Mills, NTP (RFC 5905, 8: offset and delay of a round trip; 11.2.1: a majority of clocks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dwd.raft.core.quorum import majority

OFF_MS = 500.0
"""Further from the median than this a node neither campaigns nor leads."""
RIGHT_MS = 250.0
"""Nearer than this it may again: the difference keeps a clock at the edge from going back and forth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """`distance_ms` is positive for an own clock that is ahead. `off`: so far that no error explains it. `right`: so
    near, to the median of the others too, that no error hides it.
    """

    distance_ms: float
    median_ms: float
    off: bool
    right: bool


def judge(own: float, others: Sequence[float], *, voters: int, error_ms: float) -> Opinion | None:
    """None while clocks of less than a majority of `voters` (this node is one) are known, or nobody else's.

    `error_ms` bounds how far the reading of another clock may be from the truth.
    """
    if not others or 1 + len(others) < majority(voters):
        return None
    distance, median = _from_median(own, [own, *others])
    alone, _ = _from_median(own, others)
    return Opinion(
        distance_ms=distance,
        median_ms=median,
        off=abs(distance) - error_ms > OFF_MS,
        right=abs(distance) + error_ms < RIGHT_MS and abs(alone) + error_ms < RIGHT_MS,
    )


def _from_median(own: float, clocks: Sequence[float]) -> tuple[float, float]:
    """How far `own` is from the middle of `clocks`, and the nearest point of that middle."""
    ordered = sorted(clocks)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    nearest = min(max(own, low), high)
    return own - nearest, nearest
