"""When a group may rest without heartbeats, and what a replica must relearn when it goes on.

A leader may rest once nothing is under way and everybody who is not known to be away has all of the log and has
applied it: whoever is left behind would have nobody to notice it by. A follower agrees only from exactly that position.
While it rests the shell does not call `tick`: a leader's word that it lives is then the shell's to hear
(`dwd.raft.hibernation`).

Source: the quiescence of CockroachDB's replicas (pkg/kv/kvserver/replica_raft_quiesce.go: all followers up to date or
on nodes that are not live) and TiKV's hibernating regions, which ask the followers first.
Hazard: nothing that counts ticks may be believed across a rest: leases, check-quorum, a read's patience. `woken` ends
them all.
"""

from __future__ import annotations

from collections.abc import Collection

from dwd.base.ids import LogIndex, ReplicaId, Term
from dwd.raft.core.elect import reset_patience
from dwd.raft.core.quorum import holds_majority
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import Role


def may_rest(state: State, away: Collection[ReplicaId]) -> bool:
    """Of a leader: whether the others may be asked to rest. `away`: members on nodes known to be dead, whose return
    the shell will notice; the rest must be a quorum.
    """
    last = state.log.last_index
    reads = state.leader_reads
    if (
        state.role is not Role.LEADER
        or not _settled(state)
        or state.commit < state.term_start
        or state.configurations.index > state.commit
        or state.configuration.is_joint
        or state.transfer is not None
        or reads.joined
        or reads.waiting
    ):
        return False
    for replica, progress in state.progress.items():
        if replica in away:
            continue
        if progress.state is not ProgressState.REPLICATE or progress.match != last or progress.fetching:
            return False
    return holds_majority(state.configurations.halves, lambda voter: voter not in away)


def may_rest_behind(state: State, leader: ReplicaId, term: Term, index: LogIndex) -> bool:
    """Of a follower or learner: whether it stands where its leader says that everybody does."""
    return (
        state.role is Role.FOLLOWER
        and state.leader == leader
        and state.term == term
        and state.log.last_index == index
        and _settled(state)
        and state.offer is None
        and not state.peer_reads.waiting
        and not state.peer_reads.joined
    )


def _settled(state: State) -> bool:
    """All of the log is durable, committed and applied, and nothing waits to be done."""
    last = state.log.last_index
    return (
        state.commit == last
        and state.applied == last
        and state.log.stable == last
        and state.doubt is None
        and state.outbox.is_empty()
        and not state.outbox.writes
    )


def woken(state: State, *, silent_ticks: int, alive: Collection[ReplicaId]) -> None:
    """Ticks go on. A leader speaks at the next one, and a new period of check-quorum begins, with those `alive` whose
    nodes were heard of lately; a follower has not heard of its leader for `silent_ticks`.
    """
    timers = state.timers
    if state.role is Role.LEADER:
        timers.election = 0
        timers.heartbeat = state.options.heartbeat_ticks
        for replica, progress in state.progress.items():
            progress.recent_active = replica in alive
        return
    reset_patience(state)
    timers.election = silent_ticks


def forget_entries(state: State) -> None:
    """Give the memory of entries back; who needs them is served from the log store."""
    state.log.evict(state.applied, 0)
