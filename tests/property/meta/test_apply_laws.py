"""Laws of applying: batches do not matter, sessions execute once, listings equal the naive ones."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dwd.meta.core.apply import RegisterSession
from dwd.meta.core.shard.commands import CreateUpload, DeleteObject, Drain, PutObject, SealBucket, UnsealBucket
from dwd.meta.core.shard.queries import GetUsage, ListObjects
from tests.twins.meta_group import Group, block, content_hash

KEYS = st.sampled_from(["a", "b", "c/d"])
BUCKETS = st.sampled_from(["x", "y"])
_numbers = itertools.count(1)


@st.composite
def commands(draw: Any) -> Any:
    bucket, key = draw(BUCKETS), draw(KEYS)
    kind = draw(st.sampled_from(["inline", "blocks", "delete", "upload", "drain", "seal", "unseal"]))
    if kind == "inline":
        return PutObject(bucket=bucket, key=key, bucket_epoch=9, size=3, etag="e", inline=b"abc")
    if kind == "blocks":
        missing = draw(st.sampled_from([(), (1,)]))
        return PutObject(
            bucket=bucket, key=key, bucket_epoch=9, size=100, etag="e",
            blocks=(block(next(_numbers), missing=missing),),
        )  # fmt: skip
    if kind == "upload":
        return CreateUpload(bucket=bucket, key=key, bucket_epoch=9, upload=f"{next(_numbers):032x}")
    if kind == "seal":
        return SealBucket(bucket=bucket, bucket_epoch=draw(st.integers(1, 9)))
    if kind == "unseal":
        return UnsealBucket(bucket=bucket, bucket_epoch=draw(st.integers(1, 9)))
    if kind == "drain":
        return Drain(limit=3)
    return DeleteObject(bucket=bucket, key=key, bucket_epoch=9)


@settings(max_examples=30, deadline=None)
@given(
    todo=st.lists(commands(), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=40),
    sessions=st.lists(st.sampled_from([7, 8, 9]), min_size=40, max_size=40),
)
def test_database_is_the_same_however_entries_were_cut_into_batches(
    todo: list[Any], cuts: list[int], sessions: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as root:
        one, many = Group(Path(root) / "one"), Group(Path(root) / "many")
        entries = [one.entry(RegisterSession(), session=8, sequence=0)]
        entries += [
            one.entry(c, after=n + 1, session=sessions[n], sequence=n + 1, lowest=max(0, n - 3))
            for n, c in enumerate(todo)
        ]
        expected = list(one.machine.apply(entries))
        found: list[Any] = []
        sizes = itertools.cycle(cuts)
        while len(found) < len(entries):
            found += many.machine.apply(entries[len(found) : len(found) + next(sizes)])
        assert [repr(o) for o in found] == [repr(o) for o in expected]
        assert content_hash(one.machine.live.path) == content_hash(many.machine.live.path)
        one.close()
        many.close()


@settings(max_examples=25, deadline=None)
@given(repeats=st.lists(st.integers(1, 4), min_size=1, max_size=12), reopen=st.booleans())
def test_command_executes_once_however_often_it_stands_in_the_log(repeats: list[int], reopen: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        group = Group(Path(root))
        for number, times in enumerate(repeats, start=1):
            make = CreateUpload(bucket="b", key="k", bucket_epoch=1, upload=f"{number:032x}")
            outcomes = []
            for _ in range(times):
                if reopen:
                    group.close()
                    group = Group(Path(root))
                group.sequence = number
                outcomes += group.machine.apply([group.entry(make, lowest=max(0, number - 2))])
            assert len({repr(o) for o in outcomes}) == 1, "every copy is answered like the first"
        assert group.ask(GetUsage(bucket="b")).buckets[0].uploads == len(repeats)
        group.close()


@settings(max_examples=60, deadline=None)
@given(
    keys=st.sets(st.text(alphabet="a/é😀b-", min_size=1, max_size=5), max_size=25),
    prefix=st.text(alphabet="a/é", max_size=2),
    delimiter=st.sampled_from(["", "/", "a", "/a"]),
    after=st.text(alphabet="a/éb", max_size=4),
    limit=st.integers(1, 7),
)
def test_pages_together_equal_the_naive_listing(
    keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        group = Group(Path(root))
        group.machine.apply(
            [
                group.entry(
                    PutObject(bucket="b", key=key, bucket_epoch=1, size=1, etag="e", inline=b"x"),
                    after=n, sequence=n + 1, lowest=0,
                )
                for n, key in enumerate(sorted(keys))
            ]
        ) if keys else None  # fmt: skip
        found: list[str] = []
        at = after
        for _ in range(100):
            page = group.ask(ListObjects(bucket="b", prefix=prefix, delimiter=delimiter, after=at, limit=limit))
            items = [o.key for o in page.objects] + list(page.prefixes)
            assert len(items) <= limit
            found += sorted(items, key=str.encode)
            if not page.truncated:
                break
            assert page.next_after == found[-1]
            at = page.next_after
        group.close()
    assert found == naive(keys, prefix, delimiter, after)


def naive(keys: set[str], prefix: str, delimiter: str, after: str) -> list[str]:
    """Roll up every key, then drop what is not greater than `after`."""
    items: set[str] = set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        items.add(key if at < 0 else key[: at + len(delimiter)])
    return sorted((i for i in items if i.encode() > after.encode()), key=str.encode)
