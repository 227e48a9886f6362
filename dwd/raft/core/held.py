"""How far the log is held by data voters, so that a witness may forget it: see `witness.py`.

With voters that may lose f of them, an entry that f + 1 data voters hold needs no witness to survive.
"""

from __future__ import annotations

from dwd.base.ids import LogIndex
from dwd.raft.core.quorum import Half, majority
from dwd.raft.core.state import State


def held_index(state: State) -> LogIndex:
    """Leader: up to where more data voters than may fail hold the log."""
    return min(_held_by(state, half) for half in state.configurations.halves)


def _held_by(state: State, half: Half) -> LogIndex:
    matches = sorted(
        (
            state.log.stable if replica == state.replica else state.progress[replica].match
            for replica in half
            if replica not in state.configurations.witnesses
        ),
        reverse=True,
    )
    losses = len(half) - majority(len(half))
    return matches[min(losses, len(matches) - 1)] if matches else LogIndex(0)
