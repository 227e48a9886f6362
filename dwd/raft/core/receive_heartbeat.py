"""A leader says that it is alive, what is committed, and which round of reads it wants confirmed.

Source: Ongaro & Ousterhout 2014, 5.2; thesis 6.4. Heartbeats carry no entries, so a full append stream cannot make a
leader look dead.
"""

from __future__ import annotations

from dwd.raft.core import doubt, lease
from dwd.raft.core.messages import Heartbeat, HeartbeatReply
from dwd.raft.core.state import State


def receive_heartbeat(state: State, heartbeat: Heartbeat) -> None:
    """A replica in doubt confirms round 0, which no round waits for."""
    state.timers.election = 0
    state.held = heartbeat.held
    if state.doubt is None:
        state.commit_to(heartbeat.commit)
    else:
        state.commit_to(min(heartbeat.commit, state.verified))
        doubt.ask_leader(state)
    state.send(
        HeartbeatReply(
            source=state.replica, target=heartbeat.source, term=state.term,
            round=heartbeat.round if state.doubt is None else 0, reluctant=state.hindered or not state.may_lead,
            lease=lease.promises(state),
        )
    )  # fmt: skip
