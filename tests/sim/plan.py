"""One seed's world as data: how large, with which tunables, which faults how often. The same seed, the same plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from dwd.base.units import KIB
from dwd.raft.log.store import RaftLogOptions
from dwd.raft.options import HostOptions
from tests.twins.virtual_time import SeededRng

NODES = 5
CLIENTS = 64
KEYS = 16
OPERATIONS_PER_SECOND = 58.0
BURST_MAX = 16
FAULTS_PER_SECOND = 1.15
SECONDS = 30.0
"""Of faults; then everything is healed and has to come to rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`faults`: weights by name of a fault (tests.sim.nemesis)."""

    seed: int
    seconds: float = SECONDS
    nodes: int = NODES
    clients: int = CLIENTS
    keys: int = KEYS
    operations_per_second: float = OPERATIONS_PER_SECOND
    burst_max: int = BURST_MAX
    """Clients come alone or many at a time: that is when calls overlap and are batched."""
    faults_per_second: float = FAULTS_PER_SECOND
    faults: dict[str, float] = field(default_factory=dict)
    host_options: HostOptions
    log_options: RaftLogOptions
    reconciled: bool = True
    """Members are kept by the daemon's own worker; else an operator changes them at random."""


ALWAYS = {
    "crash": 2.0, "power_loss": 2.0, "crash_in_write": 2.0, "partition": 1.5, "one_way": 1.0, "isolate_leader": 1.0,
    "storm": 1.0, "restart": 0.5, "pause": 1.0, "slow_disk": 0.5, "skew": 0.5, "blackout": 0.3,
    "compact": 1.0, "away": 0.6, "kill_leader": 1.0, "succession": 1.0,
}  # fmt: skip
SOMETIMES = {"lose_replica": 0.7, "transfer": 1.0, "full_disk": 0.4, "failed_sync": 0.4}


def plan_of(seed: int, *, seconds: float = SECONDS) -> Plan:
    """Tunables are drawn too: a bug may need a log that is cut often, or batches of one."""
    rng = SeededRng(seed)
    faults = dict(ALWAYS)
    faults |= {name: weight for name, weight in SOMETIMES.items() if rng.below(3)}
    compaction = (30, 60, 120, 120, 400, 4_000)[rng.below(6)]
    segment = (64, 128, 512)[rng.below(3)] * KIB
    host = HostOptions(
        compaction_entries=compaction,
        trailing_entries=compaction // (2, 5, 20)[rng.below(3)],
        compaction_bytes=256 * KIB,
        trailing_bytes=64 * KIB,
        apply_entries_max=(1_024, 1_024, 1_024, 1_024, 16, 2)[rng.below(6)],
        writes_in_flight=(1, 2)[rng.below(2)],
        propose_batch_max=(1_024, 1_024, 1_024, 1_024, 8, 1)[rng.below(6)],
        snapshot_reserve_bytes=0,
    )
    log = RaftLogOptions(
        segment_bytes=segment, budget_bytes=segment * (4, 16)[rng.below(2)], cache_bytes=(8, 1_024)[rng.below(2)] * KIB,
        batch_bytes=segment // 2, queue_bytes=1_024 * KIB,
    )  # fmt: skip
    return Plan(
        seed=seed, seconds=seconds, faults=faults, host_options=host, log_options=log, reconciled=rng.below(3) > 0
    )
