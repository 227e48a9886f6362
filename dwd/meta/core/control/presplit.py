"""The shards a cluster begins with: the names that buckets can have, cut into equal parts.

A cut lies between names, never inside one: a name is followed by a NUL in the order of shards (`shard_key`), which
sorts before every character of a name. So each bucket lies in one shard, and a listing asks one.
"""

from __future__ import annotations

import string

from dwd.base.errors import InvalidArgument
from dwd.base.ids import FIRST_SHARD_GROUP, GroupId
from dwd.meta.core.control.rows import ShardRange

SHARDS_INITIAL_MAX = 1_024
_FIRST = "".join(sorted(string.digits + string.ascii_lowercase))
_LATER = "".join(sorted("-." + _FIRST))
_PREFIXES = tuple(first + second for first in _FIRST for second in _LATER)
"""How names begin, in order. Bucket names: 3 to 63 of these characters, the first a digit or letter (S3)."""


def initial_shards(count: int) -> tuple[ShardRange, ...]:
    """`count` ranges over all keys, for groups counted from the first shard's. Raises InvalidArgument."""
    if not 1 <= count <= SHARDS_INITIAL_MAX:
        raise InvalidArgument("meta.initial_shards", f"a cluster begins with 1 to {SHARDS_INITIAL_MAX} shards")
    starts = [b"", *(_PREFIXES[len(_PREFIXES) * at // count].encode() for at in range(1, count))]
    return tuple(ShardRange(start=start, group=GroupId(FIRST_SHARD_GROUP + at)) for at, start in enumerate(starts))
