"""How often a leader begins a round of reads: at once for a lone reader, every few milliseconds for many.

A round costs two messages a voter whether it serves one read or a hundred, and on a loaded cluster rounds that follow
each other without a pause were most of what a small GET cost. So after a round that served more than one request the
next begins `SPACING_SECONDS` later, and takes all that came meanwhile.
"""

from __future__ import annotations

SPACING_SECONDS = 0.005
ASKED_MAX = 1_024
"""Requests of other replicas that may wait; a round begins at once when there are more."""


class RoundPace:
    """When the next round may begin."""

    def __init__(self) -> None:
        self._next_at = float("-inf")

    def wait_seconds(self, now: float) -> float:
        """Until it may; 0 if it may now."""
        return max(0.0, self._next_at - now)

    def began(self, requests: int, now: float) -> None:
        """A round begins for so many requests."""
        if requests > 1:
            self._next_at = now + SPACING_SECONDS
