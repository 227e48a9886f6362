"""A log whose last batch was cut: had it been synced, and so acknowledged? It cannot tell (raft.md section 2).

A replica in doubt may lack entries it acknowledged. It cannot lack a vote: votes are spoken of only after their second
write (`outbox.py`). Until the doubt is over it takes entries and acknowledges none, confirms no round of reads, and
says in its votes that they are doubtful. It is over when

a. **a leader vouches**: it asked (ReadRequest.doubtful) after its start, the leader forgot its old acknowledgements,
   noted its own last index, and had its leadership confirmed by a majority in a round begun afterwards, in which
   doubtful replicas do not count; and its log then matches the leader's up to the noted index. What it acknowledged to
   this leader is at or below that index; a leader of a later term that it could have acknowledged to was elected by
   a majority, which the confirming majority meets in a replica that would have refused;
b. **its vote was counted**: it granted its vote in this term for the first time since its start, and the leader says
   (ReadReply refused, with an index) that this vote was among those it won with. So the leader was elected after
   the start, by the rule below, and had by then everything that was ever committed;
c. it leads.

**Doubtful votes.** A candidate wins with a majority of votes free of doubt, which meet every commit in a log that still
has it, or with the votes of *all* voters: then its log is at least as up-to-date as every log there is, and what no
log has cannot be saved by waiting. So a whole cluster that loses power comes back by itself once all its voters are
back; with a quorum in doubt and a voter missing it waits, and `NodeStatus.tail_doubt` says why. If that voter is gone
for good an operator's recovery plan has one replica go on under a new id with what it has
(`dwd.raft.quorum_loss.reseat`), which is a new log without doubt.

Hazard: the shell has to remember the doubt across restarts until it saw `Effects.tail_confirmed`.
"""

from __future__ import annotations

from dwd.base.ids import LogIndex
from dwd.raft.core.messages import AppendReply, ReadReply, ReadRequest
from dwd.raft.core.state import State
from dwd.raft.core.types import NO_REPLICA, ReadId, Role

READ_ID_BITS = 62


def settle(state: State) -> None:
    """The doubt, if there was one, is over."""
    if state.doubt is not None:
        state.doubt = None
        state.outbox.tail_confirmed = True


def term_changed(state: State) -> None:
    """Whatever a leader of an earlier term said does not count in this one."""
    if state.doubt is not None:
        state.doubt.request = None
        state.doubt.confirm_at = None


def acknowledge(state: State, match: LogIndex) -> None:
    """Tell the leader that the log equals its own up to `match`, once that is durable; in doubt only how far it is."""
    state.verified = LogIndex(max(state.verified, match))
    if state.doubt is not None:
        _check(state)
    doubtful = state.doubt is not None
    state.send_durable(
        AppendReply(
            source=state.replica, target=state.leader, term=state.term, accepted=not doubtful,
            match=LogIndex(0) if doubtful else match,
            hint_index=match, hint_term=state.log.term_of(match) or state.log.base.term,
        )
    )  # fmt: skip


def _check(state: State) -> None:
    doubt = state.doubt
    if doubt is not None and doubt.confirm_at is not None and state.verified >= doubt.confirm_at:
        settle(state)


def ask_leader(state: State) -> None:
    """Ask the leader to vouch; asked again now and then, since messages get lost. Called on each tick and heartbeat."""
    doubt = state.doubt
    if doubt is None or state.role is not Role.FOLLOWER or state.leader == NO_REPLICA:
        return
    if doubt.confirm_at is not None or (doubt.request is not None and doubt.request_ticks > 0):
        return
    doubt.request = ReadId(state.rng.bits(READ_ID_BITS) + 1)
    doubt.request_ticks = state.options.election_ticks_min
    state.send(
        ReadRequest(source=state.replica, target=state.leader, term=state.term, read=doubt.request, doubtful=True)
    )


def receive_answer(state: State, reply: ReadReply) -> bool:
    """Whether `reply` was the answer to our doubt."""
    doubt = state.doubt
    if doubt is None or doubt.request != reply.read:
        return False
    if not reply.refused or (reply.index > 0 and doubt.voted_term == state.term):
        doubt.confirm_at = reply.index
        _check(state)
    if not reply.refused or reply.index == 0:
        doubt.request = None
    return True
