"""When an entry is committed, and when it may be applied.

Source: Ongaro & Ousterhout 2014, 5.3, 5.4.2 and figure 8: only entries of the leader's own term are committed by
counting; those before them follow. The leader counts itself only for what is durable here (thesis 10.2.1).
"""

from __future__ import annotations

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex
from dwd.raft.core import configure, read, transfer
from dwd.raft.core.log_view import total_bytes
from dwd.raft.core.quorum import jointly_agreed
from dwd.raft.core.state import State
from dwd.raft.core.types import Entry, Role

APPLY_ENTRIES_MAX = 4096
"""Handed out at a time."""


def advance_commit(state: State) -> None:
    """Count what a majority of the voters has."""
    if state.role is not Role.LEADER:
        return
    progress, own = state.progress, state.replica
    agreed = jointly_agreed(
        state.configurations.halves, lambda voter: state.log.stable if voter == own else progress[voter].match
    )
    if agreed <= state.commit or state.log.term_of(agreed) != state.term:
        return
    before, opening = state.commit, state.commit < state.term_start
    state.commit_to(agreed)
    newly = state.log.cached_from(before + 1)[: agreed - before]
    state.uncommitted_bytes -= total_bytes(newly)
    state.feed = True
    if opening:
        read.begin_round(state)
    if state.configurations.index <= agreed:
        _configuration_committed(state)


def _configuration_committed(state: State) -> None:
    """The configuration in force is: leave it if it is joint. A leader that has no vote in it tells the others what is
    committed and steps down (thesis 4.2.2).
    """
    if state.configuration.is_joint and not state.witness:
        configure.leave_joint(state)
    elif state.replica not in state.configurations.voters:
        transfer.resign(state)


def may_hand_out(state: State) -> bool:
    """Committed entries that are durable here wait, and the state machine keeps up."""
    ready = min(state.commit, state.log.stable)
    return state.handed < ready and state.handed_bytes < state.options.apply_bytes_max


def hand_out(state: State) -> tuple[Entry, ...]:
    """The next committed entries to apply. Only what is durable here is ever applied (raft.md section 1)."""
    if not may_hand_out(state):
        return ()
    ready = min(state.commit, state.log.stable)
    entries, size = state.log.slice(
        state.handed + 1, ready,
        count_max=APPLY_ENTRIES_MAX, bytes_max=state.options.apply_bytes_max - state.handed_bytes,
    )  # fmt: skip
    state.handed = entries[-1].index
    state.handed_bytes += size
    state.handed_sizes.append((state.handed, size))
    return entries


def applied(state: State, index: LogIndex) -> None:
    """The state machine is at `index`; memory for entries it no longer needs can go."""
    if index > state.handed:
        raise InvariantViolation("applied what was never handed out", index=index, handed=state.handed)
    if index <= state.applied:
        return
    state.applied = index
    done = 0
    for upto, size in state.handed_sizes:
        if upto > index:
            break
        state.handed_bytes -= size
        done += 1
    del state.handed_sizes[:done]
    state.configurations.settle(min(index, state.commit))
    state.log.evict(index, state.options.cache_bytes_max)
