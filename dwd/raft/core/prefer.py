"""The highest-priority voter that is reachable and caught up leads: any other leader hands over to it.

Only time and comfort depend on it, never safety. A handover that comes to nothing is not tried again for a while, and
one that has just begun to lead does not hand over at once, so a voter that can be reached but cannot lead costs little.

Source: raft.md section 1; the mechanism is Ongaro's thesis 3.10.
"""

from __future__ import annotations

from dwd.raft.core import transfer
from dwd.raft.core.progress import Progress
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState


def hand_over(state: State) -> None:
    """Leader: begin a transfer if a better voter is ready."""
    settled = state.configurations.index <= state.commit and not state.configuration.is_joint
    if state.transfer is not None or state.transfer_rest > 0 or not settled or state.commit < state.term_start:
        return
    own = state.configuration.find(state.replica)
    better = [
        (member.priority, -member.replica, member.replica)
        for member in state.configuration.members
        if (own is None or member.priority > own.priority)
        and member.replica != state.replica
        and transfer.may_lead(state, member)
        and _is_ready(state, state.progress[member.replica])
    ]
    if better:
        transfer.begin(state, max(better)[2])


def _is_ready(state: State, progress: Progress) -> bool:
    return (
        progress.state is ProgressState.REPLICATE
        and progress.recent_active
        and not progress.reluctant
        and progress.match >= state.commit
    )
