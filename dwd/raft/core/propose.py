"""Putting commands into the leader's log. Source: Ongaro & Ousterhout 2014, 5.3; stamps: raft.md section 4."""

from __future__ import annotations

from collections.abc import Sequence

from dwd.base.errors import Busy, DwError
from dwd.base.ids import LogIndex, Stamp, stamp_of
from dwd.base.units import format_bytes
from dwd.raft.core.effects import Accepted, Refused
from dwd.raft.core.options import APPEND_OVERHEAD_BYTES, TRANSFERRING, UNCOMMITTED_FULL
from dwd.raft.core.state import State
from dwd.raft.core.types import Entry, EntryKind, ProposalId, Role


def propose(state: State, items: Sequence[tuple[ProposalId, bytes]], *, unix_ms: int) -> None:
    """Each item is accepted at an index of its own or refused; an oversized one is taken when nothing else waits."""
    if state.role is not Role.LEADER:
        refuse(state, [proposal for proposal, _ in items], state.not_leader())
        return
    obstacle = why_not_now(state)
    if obstacle is not None:
        refuse(state, [proposal for proposal, _ in items], obstacle)
        return
    log, term = state.log, state.term
    index, stamp = log.last_index, max(stamp_of(unix_ms) - 1, log.last_stamp)
    room = _room(state)
    entries: list[Entry] = []
    accepted = state.outbox.accepted
    for place, (proposal, payload) in enumerate(items):
        size = len(payload) + APPEND_OVERHEAD_BYTES
        if size > room and (entries or state.uncommitted_bytes or room <= 0):
            refuse(state, [proposal for proposal, _ in items[place:]], _full(state))
            break
        room -= size
        index, stamp = LogIndex(index + 1), Stamp(stamp + 1)
        entries.append(Entry(index=index, term=term, kind=EntryKind.COMMAND, stamp=stamp, payload=payload))
        accepted.append(Accepted(proposal=proposal, index=index, term=term))
    take(state, entries, _room(state) - room)


def _room(state: State) -> int:
    """Bytes that may be proposed: what is not committed is bounded, and what is not applied yet too."""
    options = state.options
    backlog = state.log.cache_bytes - 2 * options.cache_bytes_max - options.apply_bytes_max
    return options.uncommitted_bytes_max - max(state.uncommitted_bytes, backlog)


def take(state: State, entries: Sequence[Entry], size: int) -> None:
    """Append to the own log; it is written and sent when the effects are taken."""
    if entries:
        state.append(entries)
        state.uncommitted_bytes += size
        state.feed = True


def refuse(state: State, proposals: Sequence[ProposalId], error: DwError) -> None:
    state.outbox.refused.extend(Refused(proposal=proposal, error=error) for proposal in proposals)


def why_not_now(state: State) -> Busy | None:
    """Nothing is proposed while leadership is handed on (thesis 3.10), nor ever by a witness."""
    if state.transfer is None and not state.witness:
        return None
    return Busy(
        TRANSFERRING, "leadership is being handed to another replica", hint="try again at once", group=state.group
    )


def _full(state: State) -> Busy:
    return Busy(
        UNCOMMITTED_FULL,
        f"{format_bytes(state.uncommitted_bytes)} of commands wait for their commit",
        hint="try again; if this lasts, a follower or a disk is too slow",
        group=state.group,
    )
