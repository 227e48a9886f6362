"""What an operator may tune of the host, with the defaults of the design."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.errors import InvariantViolation
from dwd.base.ids import CONTROL_GROUP, GroupId
from dwd.base.units import MIB
from dwd.raft.core.options import NodeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """Times in their named units, sizes in bytes. Ticks drive elections and heartbeats of every group."""

    tick_ms: int = 100
    election_ticks: int = 10
    """A follower stands after this many silent ticks, up to twice as many (randomised)."""
    heartbeat_ticks: int = 2
    lease_reads: bool = False
    """See `dwd.raft.core.lease` for what it trusts."""
    hibernate_seconds: float = 15.0
    """A group that nobody used for so long rests; 0: none ever does."""
    always_awake: frozenset[GroupId] = frozenset({CONTROL_GROUP})
    """Groups that never rest."""
    proposals_max: int = 4_096
    """Waiting proposals a group, past which callers get Busy."""
    reads_max: int = 16_384
    inbox_max: int = 16_384
    """Raft messages waiting for the loop; more are dropped, which the protocol tolerates."""
    propose_batch_max: int = 1_024
    writes_in_flight: int = 2
    """Log writes handed to the store and not yet durable; what comes meanwhile joins the next one."""
    hand_over_seconds: float = 2.0
    """How long a node that stops may take to hand its leaderships over; 0: it does not."""
    slow_sync_seconds: float = 0.5
    """A leader whose log writes take longer (99th percentile) hands over to a faster one; 0: never for its disk."""
    machines_open_max: int = 64
    """State machines with open files; the least recently used one is closed for another."""
    apply_entries_max: int = 1_024
    apply_bytes_max: int = 4 * MIB
    compaction_entries: int = 10_000
    compaction_bytes: int = 64 * MIB
    trailing_entries: int = 5_000
    trailing_bytes: int = 16 * MIB
    snapshot_copies_max: int = 2
    """Copies of databases kept for transfers at a time, on this node."""
    snapshot_bytes_per_second: int = 64 * MIB
    """What a node sends to all who lack a snapshot, together: full speed would be felt by those who write."""
    snapshot_chunk_seconds: float = 10.0
    """A transfer whose next chunk takes longer is broken off and resumed."""
    snapshot_copy_seconds: float = 300.0
    """How long a sender may take to make a copy."""
    snapshot_reserve_bytes: int = 64 * MIB
    """Free space that a copy or a transfer must leave."""

    def __post_init__(self) -> None:
        if self.trailing_entries >= self.compaction_entries or self.trailing_bytes >= self.compaction_bytes:
            raise InvariantViolation("what compaction leaves must be less than what starts it")
        if min(self.tick_ms, self.election_ticks, self.proposals_max, self.reads_max, self.writes_in_flight) < 1:
            raise InvariantViolation("host options must be positive")

    def node_options(self) -> NodeOptions:
        """The same for the core of each group."""
        return NodeOptions(
            tick_ms=self.tick_ms,
            election_ticks_min=self.election_ticks,
            election_ticks_max=2 * self.election_ticks,
            heartbeat_ticks=self.heartbeat_ticks,
            lease_reads=self.lease_reads,
        )
