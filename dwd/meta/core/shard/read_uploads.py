"""Answers about multipart uploads."""

from __future__ import annotations

from dwd.base.ids import Stamp
from dwd.meta.core.shard.queries import (
    GetUpload,
    ListParts,
    ListUploads,
    PartsAnswer,
    UploadAnswer,
    UploadsAnswer,
)
from dwd.meta.core.shard.ranges import common_prefix, first_after, successor
from dwd.meta.core.shard.read_objects import page_limit
from dwd.meta.core.shard.rows import PartRow, UploadRow
from dwd.meta.core.tx import Reader, Row

_COLUMNS = "bucket, key, upload, initiated, headers, checksum, sealing"


def get_upload(reader: Reader, query: GetUpload) -> UploadAnswer:
    row = reader.row(
        f"SELECT {_COLUMNS} FROM uploads WHERE bucket = ? AND key = ? AND upload = ?",  # noqa: S608 - constant
        (query.bucket, query.key.encode(), query.upload),
    )
    return UploadAnswer(upload=None if row is None else _upload(row))


def list_parts(reader: Reader, query: ListParts) -> PartsAnswer:
    upload = get_upload(reader, GetUpload(bucket=query.bucket, key=query.key, upload=query.upload)).upload
    if upload is None:
        return PartsAnswer(upload=None, parts=(), truncated=False)
    limit = page_limit(query.limit)
    rows = list(
        reader.rows(
            "SELECT number, size, etag, checksum, modified FROM parts WHERE upload = ? AND number > ?"
            " ORDER BY number LIMIT ?",
            (query.upload, query.after, limit + 1),
        )
    )
    parts = tuple(
        PartRow(number=number, size=size, etag=etag, checksum=checksum, modified=Stamp(modified))
        for number, size, etag, checksum, modified in rows[:limit]
    )
    return PartsAnswer(upload=upload, parts=parts, truncated=len(rows) > limit)


def list_uploads(reader: Reader, query: ListUploads) -> UploadsAnswer:
    prefix, delimiter = query.prefix.encode(), query.delimiter.encode()
    limit = page_limit(query.limit)
    after, end = query.after_key.encode(), successor(prefix)
    seek = (first_after(after, prefix, delimiter), "")
    if query.after_upload and after >= prefix and common_prefix(after, prefix, delimiter) is None:
        seek = (after, query.after_upload)
    found: list[Row] = []
    prefixes: list[bytes] = []
    while True:
        rolled: bytes | None = None
        for row in reader.rows(
            f"SELECT {_COLUMNS} FROM uploads WHERE bucket = ? AND (key, upload) > (?, ?) AND key < ?"  # noqa: S608
            " ORDER BY key, upload",
            (query.bucket, *seek, end),
        ):
            if len(found) + len(prefixes) == limit:
                return _answer(found, prefixes, truncated=True)
            rolled = common_prefix(row[1], prefix, delimiter)
            if rolled is not None:
                break
            found.append(row)
        if rolled is None:
            return _answer(found, prefixes, truncated=False)
        prefixes.append(rolled)
        seek = (successor(rolled), "")


def _answer(found: list[Row], prefixes: list[bytes], *, truncated: bool) -> UploadsAnswer:
    return UploadsAnswer(
        uploads=tuple(_upload(row) for row in found),
        prefixes=tuple(p.decode() for p in prefixes),
        truncated=truncated,
    )


def _upload(row: Row) -> UploadRow:
    return UploadRow(
        bucket=row[0],
        key=row[1].decode(),
        upload=row[2],
        initiated=Stamp(row[3]),
        headers=row[4],
        checksum=row[5],
        sealing=row[6],
    )
