"""Metrics of the host."""

from __future__ import annotations

from dwd.observability.metrics import counter, gauge, histogram

PROPOSALS = counter("dwd.raft.proposals", "Commands handed to the core by this node", "{proposal}")
COMMITS = counter("dwd.raft.commits", "Entries applied", "{entry}")
APPLY_BATCH = histogram("dwd.raft.apply_batch", "Entries applied in one transaction", "{entry}")
APPLY_SECONDS = histogram("dwd.raft.apply_seconds", "One batch applied", "s")
PERSIST_SECONDS = histogram("dwd.raft.persist_seconds", "One write of the log until it is durable, all groups", "s")
LEADER_CHANGES = counter("dwd.raft.leader_changes", "Changes of a group's leader seen here", "{change}")
LOOP_LAG_SECONDS = histogram("dwd.raft.loop_lag_seconds", "How late a tick of the loop came", "s")
SNAPSHOT_BYTES = counter("dwd.raft.snapshot_bytes", "Bytes of snapshots moved", "By")
REFUSED = counter("dwd.raft.refused", "Raft messages that were not looked at, by reason", "{message}")
HIBERNATIONS = counter("dwd.raft.hibernations", "Groups that began to rest here, or to work again", "{group}")
DISK_SLOW = gauge("dwd.raft.disk_slow", "Whether this node's log disk is so slow that it leads nothing", "1")
SYNC_P99_SECONDS = gauge("dwd.raft.sync_p99_seconds", "Writes of the log until durable, 99th percentile of late", "s")
HANDED_OVER = counter("dwd.raft.handed_over", "Leaderships given to another node, by reason", "{group}")
DROPPED = counter("dwd.raft.dropped", "Raft messages dropped at a full queue", "{message}")
QUARANTINES = counter("dwd.raft.quarantines", "Replicas whose state was found wrong here", "{replica}")
RESEEDED = counter("dwd.raft.reseeded", "Quarantined replicas given the leader's state", "{replica}")
CLOCK_OFFSET_SECONDS = gauge("dwd.raft.clock_offset_seconds", "This node's clock less the median of a quorum's", "s")
CLOCK_OFF = gauge("dwd.raft.clock_off", "Whether this node's clock is so wrong that it does not lead", "1")
