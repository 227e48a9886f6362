"""A voter with a log and without data, so that two copies of the data survive the loss of one node.

It votes and acknowledges as any voter. It proposes nothing and answers no read. It stands for election only after it
had to refuse its vote to a data voter whose log lacks entries this one has: nobody else may have them. As leader it
brings a data voter to the end of its log and hands over at once. So with two of three alive there is a leader, whichever
two they are.

**What it keeps.** An entry may be committed by one data voter and witnesses alone; then it is the witness's log that
saves it when that data voter dies. So a witness forgets an entry only when more data voters hold it than the group may
lose (all of them, if there are not so many): with two data voters and a witness, once the second one has it. The leader
says so in its heartbeats (`Heartbeat.held`, `held.py`).

A snapshot of a witness is its position and nothing else, so it takes an offer without fetching anything, and it can
offer one to nobody but another witness.

Source: raft.md section 1. The idea is older than Raft: J.-F. Paris, "Voting with Witnesses", ICDCS 1986; B. Liskov and
others, "Replication in the Harp File System", SOSP 1991 (witnesses keep a log while a copy is down).
"""

from __future__ import annotations

from dwd.base.ids import ReplicaId
from dwd.raft.core import transfer
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import MemberRole


def refused(state: State, candidate: ReplicaId) -> None:
    """Its log lacks something: a data voter cannot win without what this witness has."""
    member = state.configuration.find(candidate)
    if state.witness and member is not None and member.role is MemberRole.VOTER:
        state.needed = True


def hand_over(state: State) -> None:
    """Witness that leads: begin to hand over to whoever is furthest."""
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
