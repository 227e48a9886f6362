"""A leader sends entries.

Source: Ongaro & Ousterhout 2014, figure 2 (AppendEntries), 5.3; conflicts are answered with the last position at or
before them whose term is not above the leader's, so that a whole term is skipped at a time (5.3 end).
"""

from __future__ import annotations

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex
from dwd.raft.core import doubt
from dwd.raft.core.messages import Append, AppendReply
from dwd.raft.core.state import State
from dwd.raft.core.types import Entry


def receive_append(state: State, append: Append) -> None:
    state.timers.election = 0
    log, entries = state.log, append.entries
    if append.previous_index < state.commit:
        # Stale or resent: what is committed here equals what any leader has (5.4), so say that much.
        doubt.acknowledge(state, state.commit)
        return
    if log.term_of(append.previous_index) != append.previous_term:
        hint_index, hint_term = log.last_at_or_below(append.previous_index, append.previous_term)
        state.send(
            AppendReply(
                source=state.replica, target=append.source, term=state.term, accepted=False,
                match=LogIndex(0), hint_index=hint_index, hint_term=hint_term,
            )
        )  # fmt: skip
        return
    last = LogIndex(append.previous_index + len(entries))
    if entries:
        _take(state, entries)
    doubt.acknowledge(state, last)
    state.commit_to(min(append.commit, last))


def _take(state: State, entries: tuple[Entry, ...]) -> None:
    """Append what is new, first dropping what conflicts (figure 2, AppendEntries 3 and 4)."""
    log = state.log
    overlap = min(log.last_index - entries[0].index + 1, len(entries))
    for place in range(overlap):
        entry = entries[place]
        if log.term_of(entry.index) != entry.term:
            state.truncate_after(entry.index - 1)
            state.append(entries[place:])
            return
        if not log.may_equal(entry):
            raise InvariantViolation("two entries of one term at one index (log matching)", index=entry.index)
    state.append(entries[overlap:] if overlap else entries)
