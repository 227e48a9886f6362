"""Taking apart, command by command, what was deleted but is too large for one: lists, manifests, parts of uploads.

Invariant: one Drain command touches at most its limit of rows plus one list row (1,000 blocks).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import assert_never

from dwd.base.errors import InvalidArgument, InvariantViolation
from dwd.base.limits import BLOCKS_PER_ROW_MAX
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard import blocks
from dwd.meta.core.shard.commands import Drain, ExpireAbandoned, TrimTombstones
from dwd.meta.core.shard.state import Shard
from dwd.meta.core.tx import At, Value

DRAIN_LIMIT_MAX = BLOCKS_PER_ROW_MAX
PART = struct.Struct(">HQQ")
"""number, list, size: an item of `manifests.parts`."""


class DrainKind(IntEnum):
    LIST = 0
    """A list, its rows and blocks."""
    MANIFEST = 1
    """The lists of a manifest."""
    PARTS = 2
    """The part rows of a completed upload; their lists are the manifest's or queued already."""
    UPLOAD = 3
    """The part rows of an aborted upload, and their lists."""


def queue(shard: Shard, kind: DrainKind, target: Value) -> None:
    shard.tx.run("INSERT INTO drains (kind, target, progress) VALUES (?, ?, 0)", (kind, target))


def release_manifest(shard: Shard, manifest: int) -> None:
    """Drop one object's reference."""
    row = shard.tx.row("SELECT refs FROM manifests WHERE manifest = ?", (manifest,))
    if row is None:
        raise InvariantViolation("an object names a manifest that is not there", manifest=manifest)
    shard.tx.run("UPDATE manifests SET refs = refs - 1 WHERE manifest = ?", (manifest,))
    if row[0] == 1:
        queue(shard, DrainKind.MANIFEST, manifest)


def drain(shard: Shard, command: Drain, at: At) -> Receipt:
    if not 0 < command.limit <= DRAIN_LIMIT_MAX:
        raise InvalidArgument("meta.limit", f"a limit of 1 to {DRAIN_LIMIT_MAX} rows")
    done = 0
    while done < command.limit:
        row = shard.tx.row("SELECT id, kind, target, progress FROM drains ORDER BY id LIMIT 1")
        if row is None:
            return Receipt(index=at.index, stamp=at.stamp, count=done)
        drained, left = _step(shard, row[0], DrainKind(row[1]), row[2], row[3], command.limit - done, at)
        done += max(drained, 1)
        if not left:
            shard.tx.run("DELETE FROM drains WHERE id = ?", (row[0],))
    more = shard.tx.row("SELECT 1 FROM drains LIMIT 1") is not None
    return Receipt(index=at.index, stamp=at.stamp, count=done, more=more)


def _step(
    shard: Shard, job: int, kind: DrainKind, target: int | str, progress: int, budget: int, at: At
) -> tuple[int, bool]:
    """Rows done, and whether some of this item are left."""
    match kind:
        case DrainKind.LIST:
            return _drain_list(shard, int(target), at)
        case DrainKind.MANIFEST:
            return _drain_manifest(shard, job, int(target), progress, at)
        case DrainKind.PARTS | DrainKind.UPLOAD:
            return _drain_parts(shard, str(target), budget, with_lists=kind is DrainKind.UPLOAD)
        case _:
            assert_never(kind)


def _drain_list(shard: Shard, target: int, at: At) -> tuple[int, bool]:
    row = shard.tx.row("SELECT position, blocks FROM list_rows WHERE list = ? ORDER BY position LIMIT 1", (target,))
    if row is None:
        shard.tx.run("DELETE FROM lists WHERE list = ?", (target,))
        return 1, False
    ids = list(blocks.split_ids(row[1]))
    for block in ids:
        blocks.release(shard, block, at)
    shard.tx.run("DELETE FROM list_rows WHERE list = ? AND position = ?", (target, row[0]))
    return len(ids), True


def _drain_manifest(shard: Shard, job: int, manifest: int, progress: int, at: At) -> tuple[int, bool]:
    """One row of the part at `progress`; the parts before it are gone."""
    row = shard.tx.row(
        "SELECT substr(parts, ?, ?) FROM manifests WHERE manifest = ?", (progress * PART.size + 1, PART.size, manifest)
    )
    if row is None or not row[0]:
        shard.tx.run("DELETE FROM manifests WHERE manifest = ?", (manifest,))
        return 1, False
    _, target, _ = PART.unpack(row[0])
    done, left = _drain_list(shard, target, at)
    if not left:
        shard.tx.run("UPDATE drains SET progress = ? WHERE id = ?", (progress + 1, job))
    return done, True


def _drain_parts(shard: Shard, upload: str, budget: int, *, with_lists: bool) -> tuple[int, bool]:
    rows = list(
        shard.tx.rows("SELECT number, list FROM parts WHERE upload = ? ORDER BY number LIMIT ?", (upload, budget))
    )
    for number, target in rows:
        shard.tx.run("DELETE FROM parts WHERE upload = ? AND number = ?", (upload, number))
        if with_lists:
            queue(shard, DrainKind.LIST, target)
    return len(rows), len(rows) == budget


def iter_parts(encoded: bytes) -> Iterator[tuple[int, int, int]]:
    """(number, list, size) of each part of a manifest."""
    return PART.iter_unpack(encoded)


def expire_abandoned(shard: Shard, command: ExpireAbandoned, at: At) -> Receipt:
    if not 0 < command.limit <= DRAIN_LIMIT_MAX:
        raise InvalidArgument("meta.limit", f"a limit of 1 to {DRAIN_LIMIT_MAX} rows")
    lists = list(
        shard.tx.rows(
            "SELECT list FROM lists WHERE held = 0 AND touched < ? ORDER BY touched, list LIMIT ?",
            (command.lists_before, command.limit),
        )
    )
    for (target,) in lists:
        give_up_list(shard, target)
    uploads = list(
        shard.tx.rows(
            "SELECT bucket, key, upload FROM uploads WHERE touched < ? ORDER BY touched, bucket, key, upload LIMIT ?",
            (command.uploads_before, command.limit - len(lists)),
        )
    )
    for bucket, key, upload in uploads:
        give_up_upload(shard, bucket, key, upload)
    count = len(lists) + len(uploads)
    return Receipt(index=at.index, stamp=at.stamp, count=count, more=count == command.limit)


def give_up_list(shard: Shard, target: int) -> None:
    """No lease any more, and nobody to hold it."""
    shard.tx.run("UPDATE lists SET held = 1 WHERE list = ?", (target,))
    queue(shard, DrainKind.LIST, target)


def give_up_upload(shard: Shard, bucket: str, key: bytes, upload: str) -> None:
    shard.tx.run("DELETE FROM uploads WHERE bucket = ? AND key = ? AND upload = ?", (bucket, key, upload))
    shard.use(bucket, uploads=-1)
    queue(shard, DrainKind.UPLOAD, upload)


def trim_tombstones(shard: Shard, command: TrimTombstones, at: At) -> Receipt:
    """Oldest first, so what is forgotten is a prefix of the feed."""
    if not 0 < command.limit <= DRAIN_LIMIT_MAX:
        raise InvalidArgument("meta.limit", f"a limit of 1 to {DRAIN_LIMIT_MAX} rows")
    rows = list(
        shard.tx.rows(
            "SELECT bucket, key, changed, stamp FROM tombstones ORDER BY changed LIMIT ?",
            (command.limit,),
        )
    )
    gone = [row for row in rows if row[3] < command.before]
    for bucket, key, _, _ in gone:
        shard.tx.run("DELETE FROM tombstones WHERE bucket = ? AND key = ?", (bucket, key))
    if gone:
        shard.tx.run("UPDATE counters SET value = ? WHERE name = 'feed_start'", (gone[-1][2],))
    return Receipt(index=at.index, stamp=at.stamp, count=len(gone), more=len(gone) == command.limit)
