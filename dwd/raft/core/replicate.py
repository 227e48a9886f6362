"""Feeding peers: entries as far as the bounds allow, the commit index when there is nothing else, heartbeats.

Source: Ongaro & Ousterhout 2014, 5.3; thesis 10.2.1 (Appends go out in parallel with the leader's own write, and are
pipelined). A leader's term is always durable, so all of this leaves at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from dwd.base.ids import LogIndex, ReplicaId, Term
from dwd.raft.core import lease
from dwd.raft.core.effects import Fetch
from dwd.raft.core.held import held_index
from dwd.raft.core.log_view import bounded
from dwd.raft.core.messages import Append, Heartbeat
from dwd.raft.core.progress import Progress
from dwd.raft.core.snapshot import offer
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import ZERO_INDEX, Entry, Role


def feed_peers(state: State) -> None:
    """Send every peer what it lacks. Called once when effects are taken, so that proposals share messages."""
    state.feed = False
    if state.role is not Role.LEADER:
        return
    for replica, progress in state.progress.items():
        _feed(state, replica, progress)


def _feed(state: State, replica: ReplicaId, progress: Progress) -> None:
    log, options = state.log, state.options
    while progress.may_send(options):
        if progress.next > log.last_index:
            _send_empty(state, replica, progress)
            return
        previous_term = log.term_of(progress.next - 1)
        if previous_term is None:
            progress.snapshot()
            offer(state, replica)
            return
        if progress.next < log.cache_first:
            last = min(log.cache_first - 1, progress.next + options.append_entries_max - 1)
            progress.fetching = True
            state.outbox.fetches.append(
                Fetch(target=replica, first=progress.next, last=LogIndex(last), bytes_max=options.append_bytes_max)
            )
            return
        entries, size = log.slice(
            progress.next, log.last_index, count_max=options.append_entries_max, bytes_max=options.append_bytes_max
        )
        _send(state, replica, progress, previous_term, entries, size)


def _send_empty(state: State, replica: ReplicaId, progress: Progress) -> None:
    """Without entries: a probe of where the logs agree, or the news of a commit when nothing later will bring it."""
    commit = min(state.commit, progress.match)
    if progress.state is ProgressState.PROBE:
        previous_term = state.log.term_of(progress.next - 1)
        if previous_term is not None:
            _send(state, replica, progress, previous_term, (), 0)
    elif progress.commit_sent < commit and not progress.inflight:
        _send(state, replica, progress, state.log.last_term, (), 0)


def _send(
    state: State, replica: ReplicaId, progress: Progress, previous_term: Term, entries: tuple[Entry, ...], size: int
) -> None:
    progress.commit_sent = state.commit
    state.outbox.now.append(
        Append(
            source=state.replica, target=replica, term=state.term, previous_index=LogIndex(progress.next - 1),
            previous_term=previous_term, entries=entries, commit=state.commit,
        )
    )  # fmt: skip
    if entries:
        progress.sent(entries[-1].index, size)
    elif progress.state is ProgressState.PROBE:
        progress.paused = True


def fetched(state: State, target: ReplicaId, entries: Sequence[Entry]) -> None:
    """Entries that had left memory. The peer may have moved on meanwhile: then they are dropped."""
    progress = state.progress.get(target)
    if state.role is not Role.LEADER or progress is None or not progress.fetching:
        return
    progress.fetching = False
    state.feed = True
    if not entries:
        progress.snapshot()
        offer(state, target)
        return
    first = entries[0].index
    previous_term = state.log.term_of(first - 1)
    if first != progress.next or previous_term is None:
        return
    chosen, size = bounded(entries[: state.options.append_entries_max], state.options.append_bytes_max)
    _send(state, target, progress, previous_term, chosen, size)


def send_heartbeats(state: State) -> None:
    """Each peer hears of no commit above what it is known to have."""
    state.timers.heartbeat = 0
    lease.sending(state)
    held = _held(state)
    for replica, progress in state.progress.items():
        state.send(
            Heartbeat(
                source=state.replica, target=replica, term=state.term,
                commit=LogIndex(min(state.commit, progress.match)), round=state.leader_reads.round,
                held=held if replica in state.configurations.witnesses else ZERO_INDEX,
            )
        )  # fmt: skip


def _held(state: State) -> LogIndex:
    """What witnesses may forget."""
    return held_index(state) if state.configurations.witnesses else ZERO_INDEX
