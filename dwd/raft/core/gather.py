"""Making one `Effects` of what gathered, and taking the report that a write is durable."""

from __future__ import annotations

from typing import TypeVar

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex, Term
from dwd.raft.core.commit import advance_commit, hand_out, may_hand_out
from dwd.raft.core.effects import Dropped, Effects, SoftState
from dwd.raft.core.messages import Message, VoteReply
from dwd.raft.core.outbox import Outbox, PendingWrite
from dwd.raft.core.receive_vote_reply import receive_vote_reply
from dwd.raft.core.replicate import feed_peers
from dwd.raft.core.state import State
from dwd.raft.core.types import HardState, WriteId

_T = TypeVar("_T")

COMMIT_LAG_MAX = 1024
"""A write of entries carries the commit index when the durable one is this far behind: it only speeds up restart."""


def has_effects(state: State) -> bool:
    return (
        state.feed
        or state.log.unwritten <= state.log.last_index
        or not state.outbox.is_empty()
        or may_hand_out(state)
        or _soft_state(state) is not None
    )


def _soft_state(state: State) -> SoftState | None:
    """The soft state, if it is news."""
    known = state.outbox.soft_state
    if known and known.role is state.role and known.leader == state.leader and known.term == state.term:
        return None
    return SoftState(role=state.role, leader=state.leader, term=state.term)


def take_effects(state: State) -> Effects:
    if state.feed:
        feed_peers(state)
    outbox = state.outbox
    outbox.last_write = WriteId(outbox.last_write + 1)
    soft_state = _soft_state(state)
    outbox.soft_state = soft_state or outbox.soft_state
    entries = state.log.take_unwritten()
    effects = Effects(
        write=outbox.last_write,
        hard_state=_hard_state(state, has_entries=bool(entries)),
        entries=entries,
        snapshot=outbox.snapshot,
        messages_now=_drain(outbox.now),
        messages_durable=_drain(outbox.durable),
        committed=hand_out(state),
        accepted=_drain(outbox.accepted),
        refused=_drain(outbox.refused),
        reads=_drain(outbox.reads),
        reads_refused=_drain(outbox.reads_refused),
        fetches=_drain(outbox.fetches),
        offer=outbox.offer,
        soft_state=soft_state,
        tail_confirmed=outbox.tail_confirmed,
        dropped=_dropped(outbox),
    )
    outbox.snapshot, outbox.offer, outbox.tail_confirmed = None, None, False
    if effects.must_persist():
        outbox.writes.append(
            PendingWrite(write=effects.write, term=state.term, last=state.log.last_index, held=outbox.held)
        )
        outbox.held = []
    return effects


def _drain(items: list[_T]) -> tuple[_T, ...]:
    if not items:
        return ()
    drained = tuple(items)
    items.clear()
    return drained


def _dropped(outbox: Outbox) -> tuple[Dropped, ...]:
    if not outbox.dropped:
        return ()
    found = tuple(Dropped(refusal=why, source=source, count=n) for (why, source), n in outbox.dropped.items())
    outbox.dropped.clear()
    return found


def _hard_state(state: State, *, has_entries: bool) -> HardState | None:
    outbox = state.outbox
    lagging = has_entries and state.commit >= outbox.written_commit + COMMIT_LAG_MAX
    if not (outbox.hard_state_changed or outbox.held or lagging):
        return None
    outbox.hard_state_changed = False
    outbox.written_commit = state.commit
    return state.hard_state()


def persisted(state: State, write: WriteId) -> None:
    """All effects up to `write` are durable: entries count, and votes may be written once more and spoken of."""
    outbox = state.outbox
    if write > outbox.last_write:
        raise InvariantViolation("durable before it was taken", write=write, taken=outbox.last_write)
    held: list[Message] = []
    while outbox.writes and outbox.writes[0].write <= write:
        pending = outbox.writes.popleft()
        outbox.durable_term = Term(max(outbox.durable_term, pending.term))
        state.log.stable = LogIndex(max(state.log.stable, pending.last))
        held += pending.held
    _release(state, held)
    advance_commit(state)


def _release(state: State, held: list[Message]) -> None:
    """Their first write is durable. The own vote counts now, for nobody else relies on it; the rest waits for the
    second write. What a later term has overtaken is dropped.
    """
    own: VoteReply | None = None
    for message in held:
        if message.term < state.term:
            continue
        if isinstance(message, VoteReply) and message.source == message.target:
            own = message
            continue
        state.outbox.hard_state_changed = True
        state.outbox.durable.append(message)
    if own is not None:
        receive_vote_reply(state, own)
