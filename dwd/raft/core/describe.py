"""A replica's status from its state."""

from __future__ import annotations

from dwd.base.ids import LogIndex
from dwd.raft.core.configure import is_caught_up
from dwd.raft.core.held import held_index
from dwd.raft.core.state import State
from dwd.raft.core.status import NodeStatus, PeerStatus
from dwd.raft.core.types import NO_REPLICA, Role


def describe(state: State) -> NodeStatus:
    peers = (
        PeerStatus(
            replica=replica,
            state=progress.state,
            match=progress.match,
            next=progress.next,
            recent_active=progress.recent_active,
            caught_up=is_caught_up(state, replica),
            reluctant=progress.reluctant,
        )
        for replica, progress in state.progress.items()
    )
    return NodeStatus(
        group=state.group,
        replica=state.replica,
        role=state.role,
        leader=state.leader,
        term=state.term,
        vote=state.vote,
        commit=state.commit,
        applied=state.applied,
        persisted=state.log.stable,
        first=LogIndex(state.log.base.index + 1),
        last=state.log.last_index,
        last_term=state.log.last_term,
        configuration=state.configuration,
        configuration_index=state.configurations.index,
        configuration_pending=state.configurations.index > state.commit,
        tail_doubt=state.doubt is not None,
        uncommitted_bytes=state.uncommitted_bytes if state.role is Role.LEADER else 0,
        witness=state.witness,
        held=held_index(state) if state.role is Role.LEADER else state.held,
        transferring=NO_REPLICA if state.transfer is None else state.transfer.target,
        peers=tuple(peers) if state.role is Role.LEADER else (),
    )
