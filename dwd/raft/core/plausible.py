"""Whether a message can be meant: what no correct replica would send is dropped and counted, not believed.

A peer is authenticated, not infallible: bad memory or a bad release must not make this replica allocate without bound,
run its term to the end of its range, or stop with a broken invariant that is not its own.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from dwd.base.units import MIB
from dwd.raft.core.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadReply,
    SnapshotOffer,
    VoteRequest,
)

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
    return 0 <= message.term <= term + TERM_JUMP_MAX and _CHECKS.get(type(message), _anything)(message)


def _anything(_: Message) -> bool:
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


_CHECKS: dict[type, Callable[[Any], bool]] = {
    Append: _append,
    VoteRequest: lambda m: 0 <= m.last_index < INDEX_MAX and 0 <= m.last_term <= m.term,
    AppendReply: lambda m: 0 <= m.match < INDEX_MAX and 0 <= m.hint_index < INDEX_MAX,
    Heartbeat: lambda m: 0 <= m.commit < INDEX_MAX and m.round >= 0,
    HeartbeatReply: lambda m: m.round >= 0,
    ReadReply: lambda m: 0 <= m.index < INDEX_MAX,
    SnapshotOffer: lambda m: 0 <= m.snapshot.index < INDEX_MAX and 0 <= m.snapshot.term <= m.term,
}
