"""Nothing of a term leaves before that term and the vote in it are durable; what is acknowledged is durable, and what
is committed is on a majority (raft.md section 1, and the promise at `dwd.raft.core.effects`). Durable is what the log
store said was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dwd.base.ids import GroupId, NodeId, ReplicaId
from dwd.raft.core.effects import Effects
from dwd.raft.core.messages import AppendReply, Message, VoteReply, VoteRequest
from dwd.raft.core.state import State
from dwd.raft.core.types import Role
from dwd.raft.ports import LogWrite
from dwd.raft.transport import Parcel
from tests.sim.watching import Checker, Watch


@dataclass(slots=True)
class _Durable:
    term: int = 0
    vote: int = 0
    last: int = 0


class Durability(Checker):
    name = "durability"

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._durable: dict[tuple[int, int], _Durable] = {}
        self._committed: dict[tuple[int, int], int] = {}

    def recovered(self, group: GroupId, replica: ReplicaId, log: Any) -> None:
        last = log.entries[-1].index if log.entries else log.compacted.index
        self._durable[group, replica] = _Durable(log.hard_state.term, log.hard_state.vote, last)

    def written(self, write: LogWrite) -> None:
        known = self._durable.setdefault((write.group, write.replica), _Durable())
        if write.hard_state is not None:
            known.term, known.vote = write.hard_state.term, write.hard_state.vote
        if write.reset is not None:
            known.last = write.reset.index
        if write.entries:
            known.last = write.entries[-1].index

    def effects(self, state: State, effects: Effects) -> None:
        """A leader's commit index rose: a majority of each half holds the log up to there."""
        del effects
        who = (state.group, state.replica)
        if state.role is not Role.LEADER or state.commit == self._committed.get(who):
            return
        self._committed[who] = state.commit
        if state.commit < state.term_start or state.configurations.index > state.commit:
            return  # learnt as a follower, or counted by other voters than are in force now
        for half in state.configurations.halves:
            holding = [voter for voter in half if self._last(state.group, voter) >= state.commit]
            if len(holding) <= len(half) // 2:
                self.report(
                    f"group {state.group}: {state.commit} was committed, and durable on {len(holding)} of {half}"
                )

    def _last(self, group: GroupId, replica: ReplicaId) -> int:
        known = self._durable.get((group, replica))
        return 0 if known is None else known.last

    def sending(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            if not isinstance(parcel, Message) or (isinstance(parcel, VoteRequest | VoteReply) and parcel.pre):
                continue
            known = self._durable.get((group, parcel.source)) or _Durable()
            if parcel.term > known.term:
                self.report(f"group {group}: {parcel} left while term {known.term} was durable")
            elif isinstance(parcel, VoteReply) and parcel.granted and parcel.term == known.term:
                if known.vote != parcel.target:
                    self.report(f"group {group}: {parcel} left while the durable vote was for {known.vote:x}")
            elif isinstance(parcel, AppendReply) and parcel.accepted and parcel.match > known.last:
                self.report(f"group {group}: {parcel} left while {known.last} was durable")
