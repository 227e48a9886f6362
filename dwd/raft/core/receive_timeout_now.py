"""The leader asks this replica to take over: it stands at once, without asking first whether it would win.

Source: Ongaro's thesis, 3.10.
"""

from __future__ import annotations

from dwd.raft.core.elect import may_campaign, stand
from dwd.raft.core.messages import TimeoutNow
from dwd.raft.core.state import State


def receive_timeout_now(state: State, message: TimeoutNow) -> None:
    """Not while this replica cannot write, or doubts its own log: then the leader gives up by itself."""
    del message
    if may_campaign(state) and not state.hindered and state.doubt is None:
        stand(state, transfer=True)
