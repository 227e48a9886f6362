"""Checked after every step, cheap enough for production. Log matching, leader append-only and one leader a term are
checked where they would break: `receive_append`, `State.truncate_after`, `LogView.append`, `step`.
"""

from __future__ import annotations

from dwd.base.errors import InvariantViolation
from dwd.raft.core.state import State


def check(state: State) -> None:
    """Raises InvariantViolation: the group must stop serving on this node."""
    ordered = state.applied <= state.handed <= state.commit <= state.log.last_index
    if not ordered or state.commit < state.checked_commit or state.term < state.checked_term:
        raise InvariantViolation(
            "the order applied <= handed out <= committed <= last does not hold, or something fell",
            group=state.group, applied=state.applied, handed=state.handed, commit=state.commit,
            last=state.log.last_index, term=state.term,
            earlier_commit=state.checked_commit, earlier_term=state.checked_term,
        )  # fmt: skip
    state.checked_commit, state.checked_term = state.commit, state.term
