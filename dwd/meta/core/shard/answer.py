"""Every question to a shard to the function that answers it."""

from __future__ import annotations

from dwd.base.errors import VersionRefused
from dwd.meta.core.query import Query
from dwd.meta.core.shard import queries, read_blocks, read_fences, read_objects, read_uploads
from dwd.meta.core.tx import Reader

LONG = (
    queries.ListObjects,
    queries.GetBlocks,
    queries.GetPartBounds,
    queries.ListUploads,
    queries.ListParts,
    queries.GetUsage,
    queries.GetCounts,
    queries.GcPage,
    queries.RepairPage,
    queries.BlockPage,
    queries.BucketBlocks,
    queries.FindBlocks,
    queries.CountPlaced,
    queries.ChangesPage,
)
"""Pages, sums and what reads a whole manifest may take milliseconds: answered off the loop."""


def answer(reader: Reader, query: Query[object]) -> object:  # noqa: C901, PLR0911, PLR0912 - a table
    """Raises NotFound, InvalidArgument, Conflict as the queries say; VersionRefused for what is no shard query."""
    match query:
        case queries.HeadObject():
            return read_objects.head(reader, query)
        case queries.GetObject():
            return read_objects.get(reader, query)
        case queries.GetBlocks():
            return read_objects.get_blocks(reader, query)
        case queries.GetPartBounds():
            return read_objects.part_bounds(reader, query)
        case queries.ListObjects():
            return read_objects.list_objects(reader, query)
        case queries.GetUpload():
            return read_uploads.get_upload(reader, query)
        case queries.ListUploads():
            return read_uploads.list_uploads(reader, query)
        case queries.ListParts():
            return read_uploads.list_parts(reader, query)
        case queries.GetUsage():
            return read_blocks.usage(reader, query)
        case queries.GetCounts():
            return read_blocks.counts(reader)
        case queries.GcPage():
            return read_blocks.gc_page(reader, query)
        case queries.RepairPage():
            return read_blocks.repair_page(reader, query)
        case queries.BlockPage():
            return read_blocks.block_page(reader, query)
        case queries.BucketBlocks():
            return read_blocks.bucket_blocks(reader, query)
        case queries.FindBlocks():
            return read_blocks.find_blocks(reader, query)
        case queries.CountPlaced():
            return read_blocks.count_placed(reader, query)
        case queries.ChangesPage():
            return read_blocks.changes(reader, query)
        case queries.GetFences():
            return read_fences.fences(reader)
        case _:
            raise VersionRefused("meta.query_unknown", f"a shard does not know the question {type(query).__name__}")
