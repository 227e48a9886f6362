"""Standing for election, winning and stepping down.

Source: Ongaro & Ousterhout 2014, 5.2 and figure 2; thesis 9.6 (pre-vote), 6.2 (a leader without a quorum steps down).
Priority orders candidates in time only; safety never depends on it.
"""

from __future__ import annotations

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex, ReplicaId, Stamp, Term
from dwd.raft.core import doubt, read
from dwd.raft.core.log_view import entry_bytes, total_bytes
from dwd.raft.core.messages import VoteReply, VoteRequest
from dwd.raft.core.options import STAGGER_MS
from dwd.raft.core.progress import Progress
from dwd.raft.core.quorum import Half, majority
from dwd.raft.core.reads import LeaderReads
from dwd.raft.core.state import State
from dwd.raft.core.status import ProgressState
from dwd.raft.core.types import NO_REPLICA, ZERO_INDEX, Entry, EntryKind, MemberRole, Role


def may_campaign(state: State) -> bool:
    """Voters of positive priority do, unless the shell keeps them from leading; one of priority 0
    and a witness only when their log is needed (`witness.py`).
    """
    if not state.may_lead:
        return False
    me = state.configurations.candidate(state.replica, state.commit)
    if me is None or state.timers.quiet > 0:
        return False
    return state.needed if state.witness or me.role is MemberRole.WITNESS or me.priority == 0 else True


def stagger_ticks(state: State) -> int:
    """How long to let better candidates go first: spread over STAGGER_MS by priority, then by id."""
    voters = [
        m
        for m in state.configuration.voters()
        if m.priority > 0 and m.role is MemberRole.VOTER and m.replica != state.timers.gone
    ]
    ranked = sorted(voters, key=lambda m: (-m.priority, m.replica))
    rank = next((place for place, m in enumerate(ranked) if m.replica == state.replica), len(ranked))
    return -(-rank * STAGGER_MS // (max(1, len(ranked)) * state.options.tick_ms))


def reset_patience(state: State) -> None:
    """Start waiting anew. Drawn at random so that candidates rarely meet (5.2); short while in a hurry."""
    timers, options = state.timers, state.options
    timers.election = 0
    if timers.hurry > 0:
        timers.patience = 1 + stagger_ticks(state) + state.rng.below(3)
        return
    if state.configurations.voters == (state.replica,):
        timers.patience = 1
        return
    span = options.election_ticks_max - options.election_ticks_min + 1
    timers.patience = options.election_ticks_min + state.rng.below(span) + stagger_ticks(state)


def become_follower(state: State, term: Term, leader: ReplicaId) -> None:
    """Enter `term` (or stay in it) behind `leader`, who may be unknown."""
    if state.role is Role.LEADER:
        read.refuse_leader_reads(state)
        state.progress = {}
        state.feed = False
        state.uncommitted_bytes = 0
        state.transfer = None
    if term != state.term:
        state.set_term(term, NO_REPLICA)
        state.verified = state.commit
        state.held = ZERO_INDEX
        doubt.term_changed(state)
    state.role = Role.FOLLOWER
    state.votes = {}
    if leader != NO_REPLICA:
        state.timers.hurry = 0
        state.needed = False
    if leader != state.leader:
        read.leader_changed(state)
    state.leader = leader
    reset_patience(state)


def report_unreachable(state: State, replica: ReplicaId) -> None:
    """A stream broke. What was in flight to a peer may be lost; a leader is most likely dead."""
    if state.role is Role.LEADER:
        progress = state.progress.get(replica)
        if progress is not None and progress.state is not ProgressState.SNAPSHOT:
            progress.probe(progress.match + 1)
    elif replica == state.leader and not state.options.lease_reads:
        _leader_gone(state)


def _leader_gone(state: State) -> None:
    """Its process is dead or cut off: do not wait for its election timeout, nor ignore those who do not."""
    state.timers.gone = state.leader
    state.leader = NO_REPLICA
    read.leader_changed(state)
    state.timers.hurry = state.options.election_ticks_min
    state.timers.election = 0
    state.timers.patience = stagger_ticks(state)
    if state.timers.patience == 0 and may_campaign(state):
        campaign(state)


def allow_leading(state: State, *, allowed: bool) -> None:
    """Who stands for election gives up when it may not lead. A leader resigns (`transfer.resign`)."""
    state.may_lead = allowed
    if not allowed and state.role in {Role.PRE_CANDIDATE, Role.CANDIDATE}:
        become_follower(state, state.term, NO_REPLICA)


def forget_leader(state: State) -> None:
    """It has been silent for too long, and this replica cannot stand in its place: say that nobody is known."""
    state.leader = NO_REPLICA
    read.leader_changed(state)
    reset_patience(state)


def campaign(state: State) -> None:
    """Ask whether a vote would be granted, without disturbing anybody (thesis 9.6)."""
    state.role = Role.PRE_CANDIDATE
    if state.leader != NO_REPLICA:
        state.leader = NO_REPLICA
        read.leader_changed(state)
    reset_patience(state)
    _request_votes(state, Term(state.term + 1), pre=True)
    tally(state)


def stand(state: State, *, transfer: bool = False) -> None:
    """Enter a new term and vote for oneself (5.2). The own vote counts once it is durable (`gather.persisted`).
    `transfer`: the leader asked for it.
    """
    if state.leader != NO_REPLICA:
        state.leader = NO_REPLICA
        read.leader_changed(state)
    state.set_term(Term(state.term + 1), state.replica)
    state.verified = state.commit
    doubt.term_changed(state)
    state.role = Role.CANDIDATE
    reset_patience(state)
    _request_votes(state, state.term, pre=False, transfer=transfer)


def _request_votes(state: State, term: Term, *, pre: bool, transfer: bool = False) -> None:
    own = VoteReply(
        source=state.replica, target=state.replica, term=term, pre=pre, granted=True, doubtful=state.doubt is not None
    )
    state.votes = {state.replica: own} if pre else {}
    if not pre:
        state.outbox.held.append(own)
    for voter in state.configurations.voters:
        if voter != state.replica:
            request = VoteRequest(
                source=state.replica, target=voter, term=term, pre=pre,
                last_index=state.log.last_index, last_term=state.log.last_term, transfer=transfer,
            )  # fmt: skip
            if pre:
                state.send(request)
            else:
                state.outbox.held.append(request)


def tally(state: State) -> None:
    """Count the votes there are and act once they decide. While joint both halves have to be won (thesis 4.3)."""
    halves = state.configurations.halves
    if all(_is_won(state, half) for half in halves):
        if state.role is Role.PRE_CANDIDATE:
            stand(state)
        else:
            become_leader(state)
    elif any(_is_lost(state, half) for half in halves):
        state.role = Role.FOLLOWER
        state.votes = {}
        reset_patience(state)


def _is_won(state: State, half: Half) -> bool:
    """By a majority free of doubt, or by all voters (`doubt.py`)."""
    granted = [vote for vote in state.votes.values() if vote.granted and vote.source in half]
    trusted = sum(1 for vote in granted if not vote.doubtful)
    return bool(half) and (trusted >= majority(len(half)) or len(granted) == len(half))


def _is_lost(state: State, half: Half) -> bool:
    refused = sum(1 for vote in state.votes.values() if not vote.granted and vote.source in half)
    return refused > len(half) - majority(len(half))


def become_leader(state: State) -> None:
    """Take over: start every peer from the end of the log and append a no-op, for only entries of the own term may
    be counted (5.4.2) and reads wait for one of them (thesis 6.4).
    """
    if state.role is not Role.CANDIDATE or state.vote != state.replica:
        raise InvariantViolation("only a candidate that voted for itself can win", term=state.term)
    state.sworn = frozenset(vote.source for vote in state.votes.values() if vote.granted and vote.doubtful)
    state.role, state.leader, state.votes = Role.LEADER, state.replica, {}
    state.timers.hurry = state.timers.election = state.timers.heartbeat = 0
    read.leader_changed(state)
    doubt.settle(state)
    following = LogIndex(state.log.last_index + 1)
    state.progress = {
        member.replica: Progress(following) for member in state.configuration.members if member.replica != state.replica
    }
    state.leader_reads = LeaderReads()
    state.transfer_rest = state.options.election_ticks_min
    state.needed = False
    state.lease_barred = False
    state.uncommitted_bytes = total_bytes(state.log.cached_from(state.commit + 1))
    state.term_start = following
    noop = Entry(
        index=following, term=state.term, kind=EntryKind.NOOP, stamp=Stamp(state.log.last_stamp + 1), payload=b""
    )
    state.append((noop,))
    state.uncommitted_bytes += entry_bytes(noop)
    state.feed = True
