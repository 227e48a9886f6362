"""Objects, blocks, collection of one shard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dwd.base.blocks import Handoff
from dwd.base.errors import Busy, Conflict, DwError, InvalidArgument, NotFound
from dwd.base.ids import DeviceId, LayoutEpoch, LogIndex, Stamp, stamp_of
from dwd.meta.core.shard.blocks import FIRST_NAMED_MS_MAX
from dwd.meta.core.shard.commands import (
    AckGc,
    AdvanceBlocks,
    CopyInsideShard,
    DeleteObject,
    Drain,
    DropStaged,
    ExpireAbandoned,
    Precondition,
    PutObject,
    SealBucket,
    StageBlocks,
    TrimTombstones,
    UnsealBucket,
    UpdateBlock,
)
from dwd.meta.core.shard.queries import (
    BlockPage,
    ChangesPage,
    FindBlocks,
    GcPage,
    GetBlocks,
    GetCounts,
    GetObject,
    GetUsage,
    HeadObject,
    ListObjects,
    RepairPage,
)
from tests.twins.meta_group import EPOCH_MS, Group, block

FAR = Stamp(1 << 62)


def put(key: str = "k", data: bytes = b"sealed", **changes: Any) -> PutObject:
    facts: dict[str, Any] = {"bucket": "b", "key": key, "bucket_epoch": 1, "size": len(data), "etag": "e-" + key}
    return PutObject(**{**facts, "inline": data, **changes})


def put_blocks(key: str, *numbers: int, length: int = 100, **changes: Any) -> PutObject:
    blocks = tuple(block(n, length) for n in numbers)
    return put(key, **{"inline": None, "blocks": blocks, "size": length * len(blocks), **changes})


def gc_ids(shard: Group) -> list[int]:
    return sorted(int.from_bytes(r.stored.block[8:]) for r in shard.ask(GcPage(before=FAR)).rows)


def block_ids(shard: Group) -> list[int]:
    found = shard.ask(BlockPage(first=0, last=0xFFFF, limit=1000)).blocks
    return sorted(int.from_bytes(b.stored.block[8:]) for b in found)


def test_object_is_read_back_when_put_inline(shard: Group) -> None:
    receipt = shard.send(put("k", b"sealed bytes", headers=b"h", checksum="CRC32:x"))
    answer = shard.ask(GetObject(bucket="b", key="k"))
    assert answer.inline == b"sealed bytes"
    assert answer.object is not None
    assert (answer.object.headers, answer.object.checksum, answer.object.modified) == (b"h", "CRC32:x", receipt.stamp)
    assert answer.object.inline_bytes == 12
    assert not receipt.existed


def test_blocks_are_read_back_with_offsets_when_object_has_blocks(shard: Group) -> None:
    shard.send(put_blocks("k", 1, 2, 3))
    answer = shard.ask(GetObject(bucket="b", key="k", offset=150, length=100))
    assert [(p.offset, p.owned.stored) for p in answer.blocks] == [(100, block(2)), (200, block(3))]
    assert (answer.blocks[0].owned.bucket, answer.blocks[0].owned.key) == ("b", "k")
    suffix = shard.ask(GetObject(bucket="b", key="k", suffix=1))
    assert [p.offset for p in suffix.blocks] == [200]


def test_blocks_go_to_collector_when_object_is_overwritten_or_deleted(shard: Group) -> None:
    shard.send(put_blocks("k", 1, 2))
    assert shard.send(put_blocks("k", 3)).existed
    assert (gc_ids(shard), block_ids(shard)) == ([1, 2], [3])
    assert shard.send(DeleteObject(bucket="b", key="k", bucket_epoch=1)).existed
    assert (gc_ids(shard), block_ids(shard)) == ([1, 2, 3], [])
    assert not shard.send(DeleteObject(bucket="b", key="k", bucket_epoch=1)).existed
    assert shard.send(AckGc(blocks=(block(1).block, block(9).block))).count == 1
    assert shard.ask(GetCounts()).gc_waiting == 2


def test_inline_bytes_are_gone_when_object_is_replaced(shard: Group) -> None:
    shard.send(put("k", b"old"))
    shard.send(put("k", b"new"))
    assert shard.sql("SELECT data FROM inline_data") == [(b"new",)]


@pytest.mark.parametrize(
    ("precondition", "there", "code"),
    [
        (Precondition(if_none_match=("*",)), True, "objects.precondition_failed"),
        (Precondition(if_none_match=("*",)), False, None),
        (Precondition(if_none_match=("e-k",)), True, "objects.precondition_failed"),
        (Precondition(if_none_match=("other",)), True, None),
        (Precondition(if_match=("e-k",)), True, None),
        (Precondition(if_match=("*",)), True, None),
        (Precondition(if_match=("other",)), True, "objects.precondition_failed"),
        (Precondition(if_match=("e-k",)), False, "objects.no_such_key"),
    ],
)
def test_put_obeys_precondition_when_one_is_given(
    shard: Group, precondition: Precondition, there: bool, code: str | None
) -> None:
    if there:
        shard.send(put("k"))
    outcome = shard.outcome(put("k", b"second", precondition=precondition))
    assert (outcome.code if isinstance(outcome, DwError) else None) == code
    kept = shard.ask(GetObject(bucket="b", key="k")).inline
    assert kept == (b"second" if code is None else b"sealed" if there else None)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (put("k", size=5, inline=None), "meta.no_source"),
        (put_blocks("k", 1, size=99), "meta.length"),
        (put_blocks("k", 1, 1), "meta.block_twice"),
        (put("k", inline=b"x", blocks=(block(1),)), "meta.two_sources"),
        (put("", b"x"), "meta.key_length"),
        (put("x" * 1025, b"x"), "meta.key_length"),
        (put("k", headers=b"h" * 20_000), "meta.headers_length"),
        (put_blocks("k", *range(1, 66)), "meta.object_too_large"),
        (put("k", inline=None, blocks=(block(1, ms=EPOCH_MS - 13 * 3600 * 1000),), size=100), "meta.block_too_old"),
        (put("k", inline=None, staged=5, size=100), "meta.no_such_list"),
    ],
)
def test_put_is_refused_without_a_trace_when_it_makes_no_sense(shard: Group, command: PutObject, code: str) -> None:
    with pytest.raises(DwError) as refused:
        shard.send(command)
    assert refused.value.code == code
    assert shard.ask(GetCounts()) == replace(shard.ask(GetCounts()), objects=0, blocks=0, gc_waiting=0)


def test_block_is_refused_when_known_or_given_up(shard: Group) -> None:
    shard.send(put_blocks("k", 1))
    for _ in range(2):
        with pytest.raises(Conflict, match="already known"):
            shard.send(put_blocks("other", 1))
        shard.outcome(DeleteObject(bucket="b", key="k", bucket_epoch=1))


def test_copies_share_blocks_until_the_last_is_deleted(shard: Group) -> None:
    shard.send(put_blocks("a", 1, 2))
    copy = CopyInsideShard(bucket="b", key="c", bucket_epoch=1, source_bucket="b", source_key="a", source_etag="e-a")
    shard.send(copy)
    shard.send(DeleteObject(bucket="b", key="a", bucket_epoch=1))
    assert (gc_ids(shard), block_ids(shard)) == ([], [1, 2])
    owned = shard.ask(GetObject(bucket="b", key="c")).blocks[0].owned
    assert owned.key == "a", "fragments carry the key that stored them"
    shard.send(DeleteObject(bucket="b", key="c", bucket_epoch=1))
    assert (gc_ids(shard), block_ids(shard)) == ([1, 2], [])


def test_copy_is_refused_when_source_is_not_what_was_seen(shard: Group) -> None:
    shard.send(put_blocks("a", 1))
    copy = CopyInsideShard(bucket="b", key="a", bucket_epoch=1, source_bucket="b", source_key="a", source_etag="e-a")
    with pytest.raises(InvalidArgument, match="must change the headers"):
        shard.send(copy)
    shard.send(replace(copy, headers=b"new"))
    assert shard.ask(HeadObject(bucket="b", key="a")).object is not None
    assert block_ids(shard) == [1]
    with pytest.raises(Conflict, match="changed meanwhile"):
        shard.send(replace(copy, key="c", source_etag="stale"))
    with pytest.raises(NotFound):
        shard.send(replace(copy, source_key="nothing"))


def stage(position: int, *numbers: int, staged: int = 5) -> StageBlocks:
    blocks = tuple(block(n) for n in numbers)
    return StageBlocks(bucket="b", key="big", bucket_epoch=1, staged=staged, position=position, blocks=blocks)


def test_large_object_is_read_in_pages_when_its_blocks_were_staged(shard: Group) -> None:
    assert shard.send(stage(0, *range(1, 101))).count == 100
    assert shard.send(stage(100, *range(101, 201))).count == 200
    shard.send(put_blocks("big", 201, size=20_100, staged=5))
    first = shard.ask(GetObject(bucket="b", key="big", limit=50))
    assert (len(first.blocks), first.more) == (50, True)
    assert first.object is not None
    rest = shard.ask(
        GetBlocks(bucket="b", key="big", manifest=first.object.manifest, offset=5_000, length=15_100, limit=1000)
    )
    assert [p.owned.stored.crc32c for p in rest.blocks] == list(range(51, 202))
    assert not rest.more
    tail = shard.ask(GetObject(bucket="b", key="big", offset=20_050, length=10))
    assert [p.offset for p in tail.blocks] == [20_000]


def test_large_object_is_drained_in_bounded_steps_when_deleted(shard: Group) -> None:
    shard.send(stage(0, *range(1, 101)))
    shard.send(stage(100, *range(101, 201)))
    shard.send(put_blocks("big", 201, size=20_100, staged=5))
    shard.send(DeleteObject(bucket="b", key="big", bucket_epoch=1))
    assert gc_ids(shard) == []
    first = shard.send(Drain(limit=100))
    assert (first.count, first.more) == (100, True)
    while shard.send(Drain(limit=100)).more:
        pass
    assert gc_ids(shard) == list(range(1, 202))
    for table in ("blocks", "lists", "list_rows", "manifests", "drains"):
        assert shard.sql(f"SELECT count(*) FROM {table}") == [(0,)], table


def test_staging_is_refused_when_out_of_order_or_somebody_elses(shard: Group) -> None:
    shard.send(stage(0, 1))
    with pytest.raises(Conflict, match="1 blocks are staged"):
        shard.send(stage(5, 2))
    with pytest.raises(NotFound):
        shard.send(put_blocks("other", 3, size=200, staged=5))
    with pytest.raises(NotFound):
        shard.send(stage(1, 2, staged=6))


def test_abandoned_list_is_collected_when_nobody_touched_it(shard: Group) -> None:
    shard.send(stage(0, 1, 2))
    assert shard.send(ExpireAbandoned(lists_before=stamp_of(EPOCH_MS), uploads_before=Stamp(0), limit=10)).count == 0
    assert shard.send(ExpireAbandoned(lists_before=FAR, uploads_before=Stamp(0), limit=10)).count == 1
    with pytest.raises(NotFound):
        shard.send(stage(2, 3))
    shard.send(Drain(limit=10))
    shard.send(Drain(limit=10))
    assert gc_ids(shard) == [1, 2]


def test_dropped_list_is_collected_once(shard: Group) -> None:
    shard.send(stage(0, 1))
    drop = DropStaged(bucket="b", key="big", staged=5)
    assert shard.send(drop).existed
    assert not shard.send(drop).existed
    shard.send(Drain(limit=10))
    assert gc_ids(shard) == [1]


def test_repair_queue_follows_block_rows_when_they_change(shard: Group) -> None:
    hurt = block(1, missing=(2,), handoffs=(Handoff(index=0, device=DeviceId(9)),))
    shard.send(put("k", inline=None, blocks=(hurt, block(2)), size=200))
    assert [b.stored for b in shard.ask(RepairPage()).blocks] == [hurt]
    assert shard.ask(GetCounts()).not_fully_redundant == 1
    better = replace(hurt, missing=(), layout_epoch=LayoutEpoch(2))
    shard.send(UpdateBlock(old=hurt, new=better))
    assert [b.stored for b in shard.ask(RepairPage()).blocks] == [better]
    with pytest.raises(Conflict, match="changed meanwhile"):
        shard.send(UpdateBlock(old=hurt, new=block(1)))
    shard.send(UpdateBlock(old=better, new=block(1)))
    assert shard.ask(RepairPage()).blocks == ()
    counts = shard.ask(GetCounts())
    assert (counts.not_fully_redundant, [(e.epoch, e.blocks) for e in counts.epochs]) == (0, [(1, 2)])
    with pytest.raises(NotFound):
        shard.send(UpdateBlock(old=block(7), new=block(7)))
    assert [b.stored for b in shard.ask(FindBlocks(blocks=(block(7).block, block(2).block))).blocks] == [block(2)]


def test_repair_is_refused_when_its_fragments_were_written_too_long_ago(shard: Group) -> None:
    """Else whoever removes strays could remove what a row is about to name."""
    shard.send(put("k", inline=None, blocks=(block(1, missing=(2,)),), size=100))
    old, made = block(1, missing=(2,)), stamp_of(shard.now_ms)
    shard.now_ms += FIRST_NAMED_MS_MAX + 1
    with pytest.raises(Conflict, match="too long ago"):
        shard.send(UpdateBlock(old=old, new=block(1), made=made))
    shard.send(UpdateBlock(old=old, new=block(1), made=stamp_of(shard.now_ms)))
    assert shard.ask(RepairPage()).blocks == ()


def test_rows_advance_together_but_for_those_that_changed(shard: Group) -> None:
    shard.send(put("k", inline=None, blocks=(block(1), block(2), block(3, missing=(0,))), size=300))
    stale = replace(block(2), layout_epoch=LayoutEpoch(7))
    command = AdvanceBlocks(blocks=(block(1), stale, block(3, missing=(0,)), block(9)), layout_epoch=LayoutEpoch(2))
    assert shard.send(command).count == 1
    assert [(e.epoch, e.blocks) for e in shard.ask(GetCounts()).epochs] == [(1, 2), (2, 1)]


def test_feed_names_latest_state_of_each_key_in_log_order(shard: Group) -> None:
    shard.send(put("a"))
    shard.send(put("b"))
    shard.send(put("a", b"again"))
    shard.send(DeleteObject(bucket="b", key="b", bucket_epoch=1))
    page = shard.ask(ChangesPage(after=LogIndex(0)))
    assert [(c.key, c.deleted) for c in page.changes] == [("a", False), ("b", True)]
    assert shard.ask(ChangesPage(after=page.next_after)).changes == ()
    assert shard.send(TrimTombstones(before=FAR, limit=10)).count == 1
    with pytest.raises(Conflict, match="start over"):
        shard.ask(ChangesPage(after=LogIndex(1)))


def test_writes_are_refused_when_bucket_is_sealed_or_view_is_old(shard: Group) -> None:
    shard.send(put("k", bucket_epoch=5))
    sealed = shard.send(SealBucket(bucket="b", bucket_epoch=5))
    assert sealed.count == 1
    with pytest.raises(Busy):
        shard.send(put("x", bucket_epoch=5))
    with pytest.raises(Conflict):
        shard.send(put("x", bucket_epoch=4))
    shard.send(put("x", bucket_epoch=6))
    shard.send(UnsealBucket(bucket="b", bucket_epoch=7))
    with pytest.raises(Conflict):
        shard.send(put("x", bucket_epoch=6))
    shard.send(put("x", bucket_epoch=7))
    assert shard.ask(GetUsage(bucket="b")).buckets[0].objects == 2


def test_listing_rolls_up_and_continues_when_delimited(shard: Group) -> None:
    for key in ("a", "d/1", "d/2", "d/e/3", "f", "ö/1"):
        shard.send(put(key))
    first = shard.ask(ListObjects(bucket="b", delimiter="/", limit=2))
    assert ([o.key for o in first.objects], first.prefixes, first.truncated) == (["a"], ("d/",), True)
    second = shard.ask(ListObjects(bucket="b", delimiter="/", after=first.next_after))
    assert ([o.key for o in second.objects], second.prefixes, second.truncated) == (["f"], ("ö/",), False)
    inside = shard.ask(ListObjects(bucket="b", prefix="d/", delimiter="/"))
    assert ([o.key for o in inside.objects], inside.prefixes) == (["d/1", "d/2"], ("d/e/",))
