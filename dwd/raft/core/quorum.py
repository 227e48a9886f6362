"""Counting: how many are a majority, and what a majority has. Pure functions over numbers.

A joint configuration has two halves, the voters of the new and of the old configuration; what is decided needs a
majority of each. An ordinary one has a single half.

Source: Ongaro & Ousterhout 2014, 5.3 and figure 2 ("a majority of matchIndex[i] >= N"), 6 (joint consensus); Ongaro's
thesis 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dwd.base.ids import LogIndex, ReplicaId

Half = tuple[ReplicaId, ...]


def majority(voters: int) -> int:
    """The smallest number such that any two sets of that size share a member."""
    return voters // 2 + 1


def agreed_index(matches: Iterable[int]) -> LogIndex:
    """The highest index that a majority of `matches` (one a voter) has reached; 0 without voters."""
    ordered = sorted(matches, reverse=True)
    return LogIndex(ordered[majority(len(ordered)) - 1] if ordered else 0)


def jointly_agreed(halves: Iterable[Half], match: Callable[[ReplicaId], int]) -> LogIndex:
    """The highest number that a majority of every half has reached."""
    return min(agreed_index(map(match, half)) for half in halves)


def holds_majority(halves: Iterable[Half], has: Callable[[ReplicaId], bool]) -> bool:
    """Whether a majority of every half `has` it. Never without voters."""
    return all(sum(map(has, half)) >= majority(len(half)) for half in halves)
