"""Whether this node's log disk is slow, measured against a limit and against the disks of its peers.

Judged about once a second over the writes of the last `WINDOW_SECONDS`. A single hiccup proves nothing: at least
`BAD_WRITES_MIN` writes must have been that slow, for `LOOKS_TO_SLOW` looks on end, and somebody else must be twice as
fast, or there is nobody better to lead. A disk counts as sound again only after `LOOKS_TO_SOUND` good looks, so that
leadership does not go to and fro.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from dwd.base.ids import NodeId

WINDOW_SECONDS = 10.0
SAMPLES_MAX = 2_048
SAMPLES_MIN = 16
BAD_WRITES_MIN = 3
HEARD_SECONDS = 5.0
"""What a peer said longer ago tells nothing any more."""
LOOKS_TO_SLOW = 5
LOOKS_TO_SOUND = 30
PEERS_FACTOR = 5.0
"""So many times slower than the median of its peers a disk is slow whatever the limit,"""
PEERS_FLOOR_SECONDS = 0.1
"""if its writes take at least so long."""
BETTER_FACTOR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStatus:
    """`sync_seconds`: the 99th percentile of writes of the log until they are durable; None when there were few."""

    sync_seconds: float | None
    slow: bool


class DiskPace:
    """`limit_seconds` 0: never slow."""

    def __init__(self, *, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)
        self._peers: dict[NodeId, tuple[float, float]] = {}
        self._looks = 0
        """On end that speak against the present verdict."""
        self.slow = False

    def note(self, seconds: float, now: float) -> None:
        """A write of the log took so long."""
        self._samples.append((now, seconds))

    def heard(self, node: NodeId, seconds: float, now: float) -> None:
        """What a peer's writes take."""
        self._peers[node] = (now, seconds)

    def sync_seconds(self, now: float) -> float | None:
        """The 99th percentile, but never fewer than BAD_WRITES_MIN writes were slower."""
        while self._samples and self._samples[0][0] < now - WINDOW_SECONDS:
            self._samples.popleft()
        count = len(self._samples)
        if count < SAMPLES_MIN:
            return None
        ordered = sorted(seconds for _, seconds in self._samples)
        return ordered[count - max(BAD_WRITES_MIN, -(-count // 100))]

    def judge(self, now: float) -> bool:
        """Whether the verdict changed."""
        own = self.sync_seconds(now)
        self._peers = {node: known for node, known in self._peers.items() if known[0] >= now - HEARD_SECONDS}
        peers = [seconds for _, seconds in self._peers.values()]
        against = self._recovered(own, peers) if self.slow else self._is_bad(own, peers)
        self._looks = self._looks + 1 if against else 0
        if self._looks < (LOOKS_TO_SOUND if self.slow else LOOKS_TO_SLOW):
            return False
        self.slow, self._looks = not self.slow, 0
        return True

    def status(self, now: float) -> DiskStatus:
        return DiskStatus(sync_seconds=self.sync_seconds(now), slow=self.slow)

    def _is_bad(self, own: float | None, peers: list[float]) -> bool:
        if own is None or not peers or not self._limit or min(peers) * BETTER_FACTOR > own:
            return False
        return own >= self._limit or (own >= PEERS_FLOOR_SECONDS and own >= PEERS_FACTOR * median(peers))

    def _recovered(self, own: float | None, peers: list[float]) -> bool:
        if own is None:
            return True
        below_peers = not peers or own < max(PEERS_FLOOR_SECONDS, PEERS_FACTOR * median(peers)) / 2
        return own < self._limit / 2 and below_peers
