"""The shards a cluster begins with."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.base.errors import InvalidArgument
from dwd.meta.core.control.presplit import SHARDS_INITIAL_MAX, initial_shards
from dwd.meta.core.control.rows import shard_key

NAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True)
COUNTS = st.integers(1, SHARDS_INITIAL_MAX)


@given(count=COUNTS)
def test_shards_cover_all_keys_once_when_split(count: int) -> None:
    shards = initial_shards(count)
    assert shards[0].start == b""
    assert all(a.start < b.start for a, b in pairwise(shards))
    assert [shard.group for shard in shards] == list(range(1, count + 1))


@given(count=COUNTS, name=NAMES, keys=st.tuples(st.text(), st.text()))
def test_a_bucket_lies_in_one_shard_when_its_keys_are_anything(count: int, name: str, keys: tuple[str, str]) -> None:
    starts = [shard.start for shard in initial_shards(count)]
    assert len({bisect_right(starts, shard_key(name, key)) for key in keys}) == 1


@pytest.mark.parametrize("count", [0, -1, SHARDS_INITIAL_MAX + 1])
def test_a_cluster_is_refused_when_it_would_begin_with_none_or_too_many_shards(count: int) -> None:
    with pytest.raises(InvalidArgument):
        initial_shards(count)
