"""Answers for repair, collection, status and followers of the feed."""

from __future__ import annotations

from dwd.base.blocks import placement_of
from dwd.base.errors import Conflict, InvalidArgument
from dwd.base.ids import BlockId, LayoutEpoch, LogIndex, Stamp
from dwd.meta.core.shard import blocks
from dwd.meta.core.shard.queries import (
    BlockPage,
    BlockPageAnswer,
    BucketBlocks,
    BucketBlocksAnswer,
    ChangesAnswer,
    ChangesPage,
    CountPlaced,
    FindBlocks,
    GcAnswer,
    GcPage,
    GetUsage,
    PlacedCount,
    PlacedCounts,
    RepairPage,
    UsageAnswer,
)
from dwd.meta.core.shard.read_objects import page_limit
from dwd.meta.core.shard.rows import Change, EpochUse, GcRow, OwnedBlock, ShardCounts, Usage
from dwd.meta.core.tx import Reader, Row, Value

_OWNED = f"SELECT {blocks.OWNED_COLUMNS} FROM blocks"  # noqa: S608 - constant
_PLACE_MAX = 0xFFFF


def gc_page(reader: Reader, query: GcPage) -> GcAnswer:
    limit = page_limit(query.limit)
    rows = list(
        reader.rows(
            f"SELECT {blocks.PLACE_COLUMNS}, 0, 0, since FROM gc WHERE block > ? AND since < ? ORDER BY block LIMIT ?",  # noqa: S608
            (query.after, query.before, limit + 1),
        )
    )
    return GcAnswer(
        rows=tuple(GcRow(stored=blocks.given_up(row), since=Stamp(row[9])) for row in rows[:limit]),
        more=len(rows) > limit,
    )


def repair_page(reader: Reader, query: RepairPage) -> BlockPageAnswer:
    limit = page_limit(query.limit)
    where = " WHERE (handoffs IS NOT NULL OR missing IS NOT NULL OR wanted IS NOT NULL) AND (place, block) > (?, ?)"
    rows = reader.rows(
        _OWNED + " INDEXED BY blocks_repair" + where + " ORDER BY place, block LIMIT ?",
        (*_after(query.after, -1), limit + 1),
    )
    return _page(list(rows), limit)


def block_page(reader: Reader, query: BlockPage) -> BlockPageAnswer:
    limit = page_limit(query.limit)
    rows = reader.rows(
        _OWNED + " WHERE (place, block) > (?, ?) AND place <= ? ORDER BY place, block LIMIT ?",
        (*_after(query.after, query.first - 1), min(query.last, _PLACE_MAX), limit + 1),
    )
    return _page(list(rows), limit)


def bucket_blocks(reader: Reader, query: BucketBlocks) -> BucketBlocksAnswer:
    limit = page_limit(query.scan)
    rows = list(
        reader.rows(
            _OWNED + " WHERE (place, block) > (?, ?) ORDER BY place, block LIMIT ?",
            (*_after(query.after, -1), limit + 1),
        )
    )
    page = rows[:limit]
    return BucketBlocksAnswer(
        blocks=tuple(_owned(row) for row in page if row[blocks.BUCKET] == query.bucket),
        scanned=len(page),
        next_after=BlockId(page[-1][0]) if page else query.after,
        more=len(rows) > limit,
    )


def find_blocks(reader: Reader, query: FindBlocks) -> BlockPageAnswer:
    found = [row for block in query.blocks[: page_limit(1_000)] if (row := blocks.find_block(reader, block))]
    return BlockPageAnswer(blocks=tuple(_owned(row) for row in found), more=False)


def count_placed(reader: Reader, query: CountPlaced) -> PlacedCounts:
    """One pass over the rows for each rank: no row leaves the shard."""
    found = []
    for rank, slots in enumerate(query.slots):
        if not 0 < len(slots) == query.partitions:
            raise InvalidArgument("meta.slots", "a byte for each partition")
        rows = reader.rows(
            "SELECT profile, substr(?1, place * ?2 / 65536 + 1, 1) AS slot, count(*), sum(length) FROM blocks"
            " WHERE layout_epoch = ?3 AND handoffs IS NULL AND missing IS NULL AND slot < x'ff'"
            " GROUP BY profile, slot",
            (slots, query.partitions, query.epoch),
        )
        found += [
            PlacedCount(profile=profile, rank=rank, slot=slot[0], blocks=count, bytes=size)
            for profile, slot, count, size in rows
        ]
    return PlacedCounts(counts=tuple(found))


def _after(after: BlockId, place: int) -> tuple[Value, Value]:
    """The (place, id) a page starts behind; an id of all ones stands behind every block of a place."""
    return (placement_of(after), after) if after else (place, b"\xff" * 17)


def _page(rows: list[Row], limit: int) -> BlockPageAnswer:
    return BlockPageAnswer(blocks=tuple(_owned(row) for row in rows[:limit]), more=len(rows) > limit)


def _owned(row: Row) -> OwnedBlock:
    return OwnedBlock(stored=blocks.stored_block(row), bucket=row[blocks.BUCKET], key=row[blocks.KEY].decode())


def usage(reader: Reader, query: GetUsage) -> UsageAnswer:
    limit = page_limit(query.limit)
    sql = "SELECT bucket, objects, bytes, uploads, packed, stored FROM buckets WHERE "
    if query.bucket:
        rows = list(reader.rows(sql + "bucket = ?", (query.bucket,)))
    else:
        rows = list(reader.rows(sql + "bucket > ? ORDER BY bucket LIMIT ?", (query.after, limit + 1)))
    return UsageAnswer(
        buckets=tuple(
            Usage(bucket=b, objects=o, bytes=s, uploads=u, packed=p, stored=t) for b, o, s, u, p, t in rows[:limit]
        ),
        more=len(rows) > limit,
    )


def counts(reader: Reader) -> ShardCounts:
    totals: dict[str, int] = dict(reader.rows("SELECT name, value FROM counters"))
    used = reader.row("SELECT coalesce(sum(objects), 0), coalesce(sum(bytes), 0) FROM buckets") or (0, 0)
    drains = reader.row("SELECT count(*) FROM drains") or (0,)
    epochs = reader.rows("SELECT layout_epoch, blocks FROM layout_use ORDER BY layout_epoch")
    return ShardCounts(
        objects=used[0],
        bytes=used[1],
        blocks=totals["blocks"],
        not_fully_redundant=totals["degraded"],
        gc_waiting=totals["gc"],
        drains_waiting=drains[0],
        epochs=tuple(EpochUse(epoch=LayoutEpoch(epoch), blocks=count) for epoch, count in epochs),
    )


def changes(reader: Reader, query: ChangesPage) -> ChangesAnswer:
    """Merges both indexes. A cursor of 0 is a newcomer, who needs no deletions from before it came."""
    limit = page_limit(query.limit)
    start = reader.row("SELECT value FROM counters WHERE name = 'feed_start'")
    if start is not None and 0 < query.after < start[0]:
        raise Conflict("meta.feed_truncated", "deletions after this cursor were forgotten; start over")
    found = [
        Change(changed=LogIndex(changed), stamp=Stamp(stamp), bucket=bucket, key=key.decode(), deleted=bool(deleted))
        for changed, stamp, bucket, key, deleted in [
            *reader.rows(
                "SELECT changed, modified, bucket, key, 0 FROM objects WHERE changed > ? ORDER BY changed LIMIT ?",
                (query.after, limit),
            ),
            *reader.rows(
                "SELECT changed, stamp, bucket, key, 1 FROM tombstones WHERE changed > ? ORDER BY changed LIMIT ?",
                (query.after, limit),
            ),
        ]
    ]
    page = tuple(sorted(found, key=lambda c: c.changed)[:limit])
    return ChangesAnswer(changes=page, next_after=page[-1].changed if page else query.after)
