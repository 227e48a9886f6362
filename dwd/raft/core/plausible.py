"""Whether a message can be meant: what no correct replica would send is dropped and counted, not believed.

A peer is authenticated, not infallible: bad memory or a bad release must not make this replica allocate without bound,
run its term to the end of its range, or stop with a broken invariant that is not its own.
"""

from __future__ import annotations

from enum import StrEnum

from dwd.base.units import MIB
from dwd.raft.core.messages import Append, AppendReply, Heartbeat, Message, ReadReply, SnapshotOffer, VoteRequest

INDEX_MAX = 2**62
TERM_JUMP_MAX = 2**40
"""More elections than a replica can have missed."""
ENTRIES_MAX = 65_536
ENTRIES_BYTES_MAX = 64 * MIB


class Refusal(StrEnum):
    """Why a message was dropped."""

    MISDIRECTED = "misdirected"
    """It is meant for another replica, or comes from this one."""
    STALE = "stale"
    """Its term is over."""
    STRANGER = "stranger"
    """Its sender is no member and has nothing to say here."""
    IMPLAUSIBLE = "implausible"
    """No correct replica sends this."""


def is_plausible(message: Message, term: int) -> bool:
    """`term` is the receiver's."""
    if not 0 <= message.term <= term + TERM_JUMP_MAX:
        return False
    match message:
        case Append():
            return _append(message)
        case VoteRequest():
            return 0 <= message.last_index < INDEX_MAX and message.last_term <= message.term
        case AppendReply():
            return 0 <= message.match < INDEX_MAX and 0 <= message.hint_index < INDEX_MAX
        case Heartbeat():
            return 0 <= message.commit < INDEX_MAX and message.round >= 0
        case ReadReply():
            return 0 <= message.index < INDEX_MAX
        case SnapshotOffer():
            return 0 <= message.snapshot.index < INDEX_MAX and message.snapshot.term <= message.term
        case _:
            return True


def _append(append: Append) -> bool:
    if not 0 <= append.previous_index < INDEX_MAX or not 0 <= append.previous_term <= append.term:
        return False
    entries = append.entries
    return not entries or (
        len(entries) <= ENTRIES_MAX
        and entries[0].index == append.previous_index + 1
        and entries[-1].index == append.previous_index + len(entries)
        and _terms_rise(append)
        and sum([len(entry.payload) for entry in entries]) <= ENTRIES_BYTES_MAX
    )


def _terms_rise(append: Append) -> bool:
    """From the one before the entries to the sender's own. Nearly always all entries are of one term."""
    term = append.previous_term
    first, last = append.entries[0].term, append.entries[-1].term
    if not term <= first <= last <= append.term:
        return False
    if first == last:
        return True
    for entry in append.entries:
        if entry.term < term:
            return False
        term = entry.term
    return True
