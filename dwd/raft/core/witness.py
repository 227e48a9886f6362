"""Voters that lead only for others: above all the witness, a voter with a log and without data.

It votes and acknowledges as any voter. It proposes nothing and answers no read. It stands for election only after it
had to refuse its vote to a data voter whose log lacks entries this one has: nobody else may have them. As leader it
brings a data voter to the end of its log and hands over at once. So with two of three alive there is a leader,
whichever two they are.

**What it keeps.** An entry may be committed by one data voter and witnesses alone; then it is the witness's log that
saves it when that data voter dies. So a witness forgets an entry only when more data voters hold it than the group may
lose (all of them, if there are not so many): with two data voters and a witness, once the second one has it. The leader
says so in its heartbeats (`Heartbeat.held`, `held.py`).

A snapshot of a witness is its position and nothing else, so it takes an offer without fetching anything, and it can
offer one to nobody but another witness.

A voter of priority 0 holds data and serves, but is not to lead; it too stands only when its log is needed and hands
over at once, else two of three alive might again mean no leader.

Source: raft.md section 1. The idea is older than Raft: J.-F. Paris, "Voting with Witnesses", ICDCS 1986; B. Liskov and
others, "Replication in the Harp File System", SOSP 1991 (witnesses keep a log while a copy is down).
"""

from __future__ import annotations

from dwd.base.ids import ReplicaId
from dwd.raft.core import transfer
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import MemberRole


def stands_in(state: State) -> bool:
    """Whether this replica leads only for others: a witness, or one of priority 0."""
    if state.witness:
        return True
    me = state.configuration.find(state.replica)
    return me is not None and (me.role is MemberRole.WITNESS or me.priority == 0)


def refused(state: State, candidate: ReplicaId) -> None:
    """Its log lacks something that this one has: it cannot win without it."""
    member = state.configuration.find(candidate)
    if member is not None and member.role is MemberRole.VOTER and member.priority > 0 and stands_in(state):
        state.needed = True


def hand_over(state: State) -> None:
    """Of a leader that stands in: begin to hand over to whoever is furthest."""
    if state.transfer is not None:
        return
    fit = [
        (progress.match, member.priority, member.replica)
        for member in state.configuration.members
        if transfer.may_lead(state, member)
        and (progress := state.progress[member.replica]).recent_active
        and progress.state is ProgressState.REPLICATE
    ]
    if fit:
        transfer.begin(state, max(fit)[2])
