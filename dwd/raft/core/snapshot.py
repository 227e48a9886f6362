"""Bringing a peer up to date that the log no longer reaches back to.

Source: Ongaro & Ousterhout 2014, section 7 and figure 13 (InstallSnapshot). Here the core only decides; the shell
fetches the file in the background, then the install takes its place in the order of writes (`Effects`).
"""

from __future__ import annotations

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex, ReplicaId
from dwd.raft.core import commit, doubt
from dwd.raft.core.messages import SnapshotOffer
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import NO_REPLICA, Configuration, Role, SnapshotMeta


def offer(state: State, target: ReplicaId) -> None:
    """Leader: offer the compacted position or anything later; the file's own position is what counts. A witness has
    no file, so only another witness can take its offer.
    """
    if state.witness and target not in state.configurations.witnesses:
        return
    state.send(
        SnapshotOffer(source=state.replica, target=target, term=state.term, snapshot=state.log.base)
    )  # fmt: skip


def receive_offer(state: State, message: SnapshotOffer) -> None:
    """Follower: fetch it, unless the log has what it holds."""
    state.timers.election = 0
    meta = message.snapshot
    if meta.index <= state.commit:
        doubt.acknowledge(state, state.commit)
    elif state.log.term_of(meta.index) == meta.term:
        state.commit_to(meta.index)
        doubt.acknowledge(state, meta.index)
    elif state.witness:
        fetched(state, meta)
    elif state.offer is None or state.offer.source != message.source or state.offer.snapshot.index < meta.index:
        state.offer = message
        state.outbox.offer = message


def fetched(state: State, meta: SnapshotMeta) -> None:
    """Follower: the file is here. Its position is committed, for a state machine holds nothing else."""
    state.offer = None
    if state.role is Role.LEADER or meta.index <= state.commit:
        return
    if state.log.term_of(meta.index) == meta.term:
        state.commit_to(meta.index)
        return
    state.log.reset(meta)
    state.outbox.clip_writes(0)
    state.configurations.reset(meta.index, meta.configuration)
    state.commit = state.handed = state.applied = meta.index
    state.handed_bytes = 0
    state.handed_sizes.clear()
    state.verified = meta.index
    state.outbox.snapshot = meta
    state.outbox.hard_state_changed = True
    if state.leader != NO_REPLICA:
        doubt.acknowledge(state, meta.index)


def replaces(state: State, meta: SnapshotMeta) -> bool:
    """Whether a state machine at `meta` may take the place of the one here, the log going on behind it as it is."""
    return state.applied <= meta.index <= state.log.stable and state.log.term_of(meta.index) == meta.term


def replaced(state: State, meta: SnapshotMeta) -> tuple[tuple[LogIndex, Configuration], ...]:
    """It did. Its position is committed, for a state machine holds nothing else. Returns the configurations of the
    entries that need not be applied any more.
    """
    if not replaces(state, meta):
        raise InvariantViolation("a state machine that the log does not continue", index=meta.index)
    skipped = state.configurations.between(state.applied, meta.index)
    state.commit_to(meta.index)
    state.handed = LogIndex(max(state.handed, meta.index))
    commit.applied(state, meta.index)
    return skipped


def reported(state: State, replica: ReplicaId, *, ok: bool) -> None:
    """Leader: the transfer ended. Probe at once where the snapshot leaves off, or where it was before."""
    progress = state.progress.get(replica)
    if state.role is Role.LEADER and progress is not None and progress.state is ProgressState.SNAPSHOT:
        progress.probe(state.log.base.index + 1 if ok else progress.match + 1)
        state.feed = True


def compacted(state: State, meta: SnapshotMeta) -> None:
    """The log up to `meta` goes away."""
    if meta.index > state.applied:
        raise InvariantViolation("the log would be cut above what is applied", index=meta.index, applied=state.applied)
    if meta.index <= state.log.base.index:
        return
    term = state.log.term_of(meta.index)
    if term != meta.term:
        raise InvariantViolation("a snapshot's term is not the log's", index=meta.index)
    state.log.compact(meta)
    state.configurations.settle(LogIndex(min(meta.index, state.commit)))
