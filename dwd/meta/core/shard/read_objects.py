"""Answers about objects and listings. Listings cost O(page): common prefixes are skipped by seeking past them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from dwd.base.errors import InvalidArgument, NotFound
from dwd.base.ids import BlockId
from dwd.meta.core.shard import blocks, drain, objects
from dwd.meta.core.shard.queries import (
    QUERY_PAGE_MAX,
    BlocksAnswer,
    GetBlocks,
    GetObject,
    GetPartBounds,
    HeadObject,
    ListAnswer,
    ListObjects,
    ObjectAnswer,
    PartBounds,
    PartBoundsAnswer,
)
from dwd.meta.core.shard.ranges import common_prefix, first_after, successor
from dwd.meta.core.shard.rows import OwnedBlock, PlacedBlock
from dwd.meta.core.tx import Reader, Row

_ONE = f"SELECT {objects.COLUMNS} FROM objects WHERE bucket = ? AND key = ? AND version = 0"  # noqa: S608 - constant
_PAGE = (
    f"SELECT {objects.COLUMNS} FROM objects WHERE bucket = ? AND key >= ? AND key < ? AND version = 0"  # noqa: S608
    " ORDER BY key"
)
_INLINE_ID, _BLOCKS, _MANIFEST = 11, 12, 9


def head(reader: Reader, query: HeadObject) -> ObjectAnswer:
    row = reader.row(_ONE, (query.bucket, query.key.encode()))
    return ObjectAnswer(object=None if row is None else objects.object_row(row))


def get(reader: Reader, query: GetObject) -> ObjectAnswer:
    row = reader.row(_ONE, (query.bucket, query.key.encode()))
    if row is None:
        return ObjectAnswer(object=None)
    found = objects.object_row(row)
    if row[_INLINE_ID] is not None:
        data = reader.row("SELECT data FROM inline_data WHERE id = ?", (row[_INLINE_ID],))
        if data is None:
            raise NotFound("meta.no_inline_data", "the object's bytes are not in this database")
        return ObjectAnswer(object=found, inline=data[0])
    offset, end = _bounds(found.size, query)
    placed, more = _cover(_walk(reader, row, offset), offset, end, page_limit(query.limit))
    return ObjectAnswer(object=found, blocks=placed, more=more)


def get_blocks(reader: Reader, query: GetBlocks) -> BlocksAnswer:
    end = query.offset + query.length
    walk = _walk_manifest(reader, query.manifest, query.offset)
    placed, more = _cover(walk, query.offset, end, page_limit(query.limit))
    return BlocksAnswer(blocks=placed, more=more)


def part_bounds(reader: Reader, query: GetPartBounds) -> PartBoundsAnswer:
    row = reader.row(_ONE, (query.bucket, query.key.encode()))
    if row is None or query.number < 1:
        return PartBoundsAnswer(part=None)
    if row[8] == 0:
        return PartBoundsAnswer(part=PartBounds(offset=0, size=row[2]) if query.number == 1 else None)
    sizes = [size for _, _, size in _parts(reader, row[_MANIFEST])]
    if query.number > len(sizes):
        return PartBoundsAnswer(part=None)
    return PartBoundsAnswer(part=PartBounds(offset=sum(sizes[: query.number - 1]), size=sizes[query.number - 1]))


def list_objects(reader: Reader, query: ListObjects) -> ListAnswer:
    prefix, delimiter = query.prefix.encode(), query.delimiter.encode()
    limit = page_limit(query.limit)
    seek, end = first_after(query.after.encode(), prefix, delimiter), successor(prefix)
    found: list[Row] = []
    prefixes: list[bytes] = []
    last = b""
    while True:
        rolled: bytes | None = None
        for row in reader.rows(_PAGE, (query.bucket, seek, end)):
            if len(found) + len(prefixes) == limit:
                return _list_answer(found, prefixes, last)
            rolled = common_prefix(row[1], prefix, delimiter)
            if rolled is not None:
                break
            found.append(row)
            last = row[1]
        if rolled is None:
            return _list_answer(found, prefixes, None)
        prefixes.append(rolled)
        last, seek = rolled, successor(rolled)


def _list_answer(found: list[Row], prefixes: list[bytes], cut_after: bytes | None) -> ListAnswer:
    return ListAnswer(
        objects=tuple(objects.object_row(row) for row in found),
        prefixes=tuple(p.decode() for p in prefixes),
        truncated=cut_after is not None,
        next_after="" if cut_after is None else cut_after.decode(),
    )


def page_limit(limit: int) -> int:
    """Raises InvalidArgument."""
    if limit < 1:
        raise InvalidArgument("meta.limit", "a page holds at least one item")
    return min(limit, QUERY_PAGE_MAX)


def _bounds(size: int, query: GetObject) -> tuple[int, int]:
    if query.suffix >= 0:
        return max(0, size - query.suffix), size
    return query.offset, size if query.length < 0 else min(size, query.offset + query.length)


def _walk(reader: Reader, row: Row, offset: int) -> Iterator[PlacedBlock]:
    if row[_MANIFEST] is not None:
        yield from _walk_manifest(reader, row[_MANIFEST], offset)
    elif row[_BLOCKS] is not None:
        yield from _place(reader, row[_BLOCKS], 0, 0, b"")


def _walk_manifest(reader: Reader, manifest: int, offset: int) -> Iterator[PlacedBlock]:
    """Blocks from the list row that holds byte `offset` on."""
    start = 0
    for _, target, size in _parts(reader, manifest):
        if start + size > offset:
            yield from _walk_list(reader, target, start, max(0, offset - start))
        start += size


def _walk_list(reader: Reader, target: int, base: int, within: int) -> Iterator[PlacedBlock]:
    found = reader.row("SELECT salt FROM lists WHERE list = ?", (target,))
    salt = b"" if found is None else found[0]
    starts = [row[0] for row in reader.rows("SELECT start FROM list_rows WHERE list = ? ORDER BY position", (target,))]
    for start in starts[max(0, bisect_right(starts, within) - 1) :]:
        row = reader.row("SELECT blocks FROM list_rows WHERE list = ? AND start = ?", (target, start))
        if row is None:
            raise NotFound("meta.no_such_manifest", "the object was replaced while it was read")
        yield from _place(reader, row[0], base, start, salt)


def _place(reader: Reader, ids: bytes, base: int, within: int, salt: bytes) -> Iterator[PlacedBlock]:
    """The blocks that begin `within` bytes behind `base`."""
    for block in blocks.split_ids(ids):
        row = blocks.find_named(reader, BlockId(block))
        if row is None:
            raise NotFound("meta.no_such_manifest", "the object was replaced while it was read")
        owned = OwnedBlock(stored=blocks.stored_block(row), bucket=row[blocks.BUCKET], key=row[blocks.KEY].decode())
        yield PlacedBlock(offset=base + within, owned=owned, within=within, salt=salt)
        within += owned.stored.plain_length


def _cover(walk: Iterator[PlacedBlock], offset: int, end: int, limit: int) -> tuple[tuple[PlacedBlock, ...], bool]:
    """The first `limit` blocks of [offset, end), and whether there are more."""
    covering: list[PlacedBlock] = []
    for placed in walk:
        if placed.offset >= end:
            break
        if placed.offset + placed.owned.stored.plain_length <= offset:
            continue
        if len(covering) == limit:
            return tuple(covering), True
        covering.append(placed)
    return tuple(covering), False


def _parts(reader: Reader, manifest: int) -> list[tuple[int, int, int]]:
    row = reader.row("SELECT parts FROM manifests WHERE manifest = ? AND refs > 0", (manifest,))
    if row is None:
        raise NotFound("meta.no_such_manifest", "the object was replaced while it was read")
    return list(drain.iter_parts(row[0]))
