"""Checked after every step, cheap enough for production. Log matching, leader append-only and one leader a term are
checked where they would break: `receive_append`, `State.truncate_after`, `LogView.append`, `step`.
"""

from __future__ import annotations

from dwd.base.errors import InvariantViolation
from dwd.raft.core.state import State
from dwd.raft.core.types import MemberRole


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
    if state.configurations.index != state.checked_configuration:
        _check_role(state)
    state.checked_commit, state.checked_term = state.commit, state.term


def _check_role(state: State) -> None:
    """A replica that was made without a state machine must never pass for one with data, nor the other way round."""
    state.checked_configuration = state.configurations.index
    member = state.configuration.find(state.replica)
    if member is not None and (member.role is MemberRole.WITNESS) != state.witness:
        raise InvariantViolation(
            "a replica is a member as something else than it was made as", group=state.group, role=member.role.name
        )
