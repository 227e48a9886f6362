"""What a replica may be told about its timing and its bounds."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.errors import InvalidArgument
from dwd.base.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """All durations are in ticks; `tick_ms` says how long one is and only scales the 200 ms priority stagger."""

    tick_ms: int = 100
    election_ticks_min: int = 10
    election_ticks_max: int = 20
    """A follower's patience is drawn anew from [min, max] each time; a leader without a quorum gives up after `min`."""
    heartbeat_ticks: int = 2
    append_entries_max: int = 256
    append_bytes_max: int = 1 * MIB
    """One Append; at least one entry always goes."""
    inflight_messages_max: int = 64
    inflight_bytes_max: int = 8 * MIB
    """Appends to one peer that are not answered yet."""
    uncommitted_bytes_max: int = 32 * MIB
    """Proposals past this are refused with Busy `raft.uncommitted_full`."""
    apply_bytes_max: int = 16 * MIB
    """Committed entries handed out and not yet reported as applied."""
    cache_bytes_max: int = 8 * MIB
    """Entries kept in memory although they are durable and applied, for followers that lag a little."""
    pending_reads_max: int = 10_000
    """Local and remote reads waiting for a round."""
    lease_reads: bool = False
    """Answer reads within a lease instead of after a round of heartbeats: trusts clocks, see `lease.py`."""
    caught_up_entries: int = 64
    """A learner this close to the leader's commit index may be promoted (thesis 4.2.1)."""

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_ticks < self.election_ticks_min <= self.election_ticks_max:
            raise InvalidArgument("raft.options", "heartbeats must be more frequent than elections")
        if self.tick_ms <= 0:
            raise InvalidArgument("raft.options", "a tick takes at least a millisecond")
        sizes = (
            self.append_entries_max, self.append_bytes_max, self.inflight_messages_max, self.inflight_bytes_max,
            self.uncommitted_bytes_max, self.apply_bytes_max, self.pending_reads_max,
        )  # fmt: skip
        if min(sizes) <= 0 or self.cache_bytes_max < 0 or self.caught_up_entries < 0:
            raise InvalidArgument("raft.options", "limits must be positive")
        if self.append_bytes_max > self.inflight_bytes_max:
            raise InvalidArgument("raft.options", "one append must fit the bytes in flight")


STAGGER_MS = 200
"""Candidates that know their leader is gone start within this time, the highest priority first."""
UNCOMMITTED_FULL = "raft.uncommitted_full"
TRANSFERRING = "raft.transferring"
APPEND_OVERHEAD_BYTES = 64
"""Counted for each entry beside its payload, so that empty entries are bounded too."""
