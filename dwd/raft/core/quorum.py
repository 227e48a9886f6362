"""Counting: how many are a majority, and what a majority has. Pure functions over numbers.

Source: Ongaro & Ousterhout 2014, 5.3 and figure 2 ("a majority of matchIndex[i] >= N").
"""

from __future__ import annotations

from collections.abc import Iterable

from dwd.base.ids import LogIndex


def majority(voters: int) -> int:
    """The smallest number such that any two sets of that size share a member."""
    return voters // 2 + 1


def agreed_index(matches: Iterable[int]) -> LogIndex:
    """The highest index that a majority of `matches` (one a voter) has reached; 0 without voters."""
    ordered = sorted(matches, reverse=True)
    return LogIndex(ordered[majority(len(ordered)) - 1] if ordered else 0)
