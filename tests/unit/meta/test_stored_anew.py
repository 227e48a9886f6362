"""A block stored under another profile takes the place of the first: everybody who named that one finds it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dwd.base.blocks import StoredBlock
from dwd.base.errors import Conflict, DwError, InvalidArgument, NotFound
from dwd.base.ids import Stamp
from dwd.meta.core.shard.commands import AckGc, CopyInsideShard, DeleteObject, PutObject, ReplaceBlock, UpdateBlock
from dwd.meta.core.shard.queries import BucketBlocks, FindBlocks, GcPage, GetCounts, GetObject, RepairPage
from tests.twins.meta_group import EPOCH_MS, Group, block

LATE = Stamp(1 << 62)


def put(shard: Group, key: str, *blocks: StoredBlock, bucket: str = "b") -> None:
    size = sum(b.length for b in blocks)
    shard.send(PutObject(bucket=bucket, key=key, bucket_epoch=1, size=size, etag=f"e-{key}", blocks=blocks))


def anew(old: StoredBlock, number: int, *, profile: str = "replica-3", wanted: str = "") -> StoredBlock:
    return replace(old, block=block(number).block, profile=profile, wanted=wanted)


def found(shard: Group, key: str) -> list[StoredBlock]:
    return [placed.owned.stored for placed in shard.ask(GetObject(bucket="b", key=key)).blocks]


def collected(shard: Group) -> list[StoredBlock]:
    return [row.stored for row in shard.ask(GcPage(before=LATE, limit=100)).rows]


def test_objects_and_their_copies_find_the_new_block_when_it_took_the_old_ones_place(shard: Group) -> None:
    first, second = block(1), block(2)
    put(shard, "a", first, second)
    shard.send(
        CopyInsideShard(bucket="b", key="c", bucket_epoch=1, source_bucket="b", source_key="a", source_etag="e-a")
    )
    third = anew(first, 3)
    shard.send(ReplaceBlock(old=first, new=third))
    assert found(shard, "a") == found(shard, "c") == [third, second]
    assert collected(shard) == [first]
    fourth = anew(third, 4, profile="rs-6-3")
    shard.send(ReplaceBlock(old=third, new=fourth))
    assert found(shard, "a") == found(shard, "c") == [fourth, second]
    shard.send(DeleteObject(bucket="b", key="a", bucket_epoch=1))
    assert found(shard, "c") == [fourth, second]
    shard.send(DeleteObject(bucket="b", key="c", bucket_epoch=1))
    assert {b.block for b in collected(shard)} == {first.block, second.block, third.block, fourth.block}
    assert shard.sql("SELECT count(*) FROM renamed") == [(0,)]


def test_fragments_of_the_old_block_have_no_owner_when_it_was_replaced(shard: Group) -> None:
    first, second = block(1), anew(block(1), 2)
    put(shard, "a", first)
    shard.send(ReplaceBlock(old=first, new=second))
    known = shard.ask(FindBlocks(blocks=(first.block, second.block))).blocks
    assert [owned.stored for owned in known] == [second], "the orphan sweep must not take one for the other"
    assert (known[0].bucket, known[0].key) == ("b", "a")


def test_replacing_is_refused_when_the_block_is_gone_or_another_now(shard: Group) -> None:
    first = block(1)
    put(shard, "a", first)
    moved = replace(first, missing=(2,))
    shard.send(UpdateBlock(old=first, new=moved))
    with pytest.raises(Conflict, match="changed meanwhile"):
        shard.send(ReplaceBlock(old=first, new=anew(first, 2)))
    shard.send(DeleteObject(bucket="b", key="a", bucket_epoch=1))
    with pytest.raises(NotFound):
        shard.send(ReplaceBlock(old=moved, new=anew(first, 2)))
    assert shard.sql("SELECT count(*) FROM blocks") == [(0,)]


def test_replacing_is_refused_when_the_new_block_is_not_the_same_bytes_or_not_new(shard: Group) -> None:
    first, other = block(1), block(2)
    put(shard, "a", first, other)
    old = block(3, ms=EPOCH_MS - 13 * 3_600_000)
    for new, kind in (
        (replace(anew(first, 3), length=7), InvalidArgument),
        (replace(anew(first, 3), crc32c=7), InvalidArgument),
        (replace(first, profile="rs-6-3"), InvalidArgument),
        (replace(anew(first, 3), block=other.block), Conflict),
        (replace(anew(first, 3), block=old.block), Conflict),
    ):
        with pytest.raises(kind):
            shard.send(ReplaceBlock(old=first, new=new))
    assert found(shard, "a") == [first, other]


def test_a_name_stays_taken_when_the_block_that_had_it_is_gone(shard: Group) -> None:
    first = block(1)
    put(shard, "a", first)
    shard.send(ReplaceBlock(old=first, new=anew(first, 2)))
    shard.send(AckGc(blocks=(first.block,)))
    for name in (1, 2):
        with pytest.raises(Conflict, match="already known"):
            put(shard, "b", block(name))


def test_replacing_changes_nothing_when_it_is_done_already(shard: Group) -> None:
    first, second = block(1), anew(block(1), 2)
    put(shard, "a", first)
    assert not shard.send(ReplaceBlock(old=first, new=second)).existed
    assert shard.send(ReplaceBlock(old=first, new=second)).existed
    assert (found(shard, "a"), collected(shard)) == ([second], [first])


def test_blocks_in_a_weaker_profile_wait_for_repair_when_another_is_wanted(shard: Group) -> None:
    weak = replace(block(1), profile="replica-2", wanted="rs-4-2")
    put(shard, "a", weak, block(2))
    assert [owned.stored for owned in shard.ask(RepairPage()).blocks] == [weak]
    assert shard.ask(GetCounts()).not_fully_redundant == 1
    good = anew(weak, 3, profile="rs-4-2")
    shard.send(ReplaceBlock(old=weak, new=good))
    assert shard.ask(RepairPage()).blocks == ()
    assert shard.ask(GetCounts()).not_fully_redundant == 0
    shard.send(UpdateBlock(old=good, new=replace(good, wanted="rs-6-3")))
    assert shard.ask(GetCounts()).not_fully_redundant == 1


def test_walks_find_the_blocks_of_one_bucket_in_bounded_stretches(shard: Group) -> None:
    for number in range(10):
        put(shard, f"k{number}", block(number), bucket="b" if number % 3 else "other")
    seen: list[int] = []
    query, scanned = BucketBlocks(bucket="b", scan=4), 0
    while True:
        page = shard.ask(query)
        scanned += page.scanned
        assert page.scanned <= 4
        seen += [owned.stored.crc32c for owned in page.blocks]
        if not page.more:
            break
        query = replace(query, after=page.next_after)
    assert (seen, scanned) == ([1, 2, 4, 5, 7, 8], 10)


def test_copies_into_another_bucket_are_refused_so_that_each_has_its_own_blocks(shard: Group) -> None:
    put(shard, "a", block(1))
    with pytest.raises(DwError) as refused:
        shard.send(
            CopyInsideShard(bucket="x", key="c", bucket_epoch=1, source_bucket="b", source_key="a", source_etag="e-a")
        )
    assert refused.value.code == "meta.copy_across_buckets"
