"""What every implementation of the Objects port does. A test module subclasses ObjectsContract and provides the
fixture `objects`: an empty implementation whose smallest part but the last is PART_BYTES_MIN.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from base64 import b64encode
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest

from dwd.base.errors import AlreadyExists, Conflict, DwError, InvalidArgument, NotFound, PermissionDenied
from dwd.objects.core.ranges import RangeRequest
from dwd.objects.ports import (
    Caller,
    Checksum,
    ChecksumKind,
    CompletedPart,
    CopySource,
    ListRequest,
    ObjectHeaders,
    Objects,
    Precondition,
)
from dwd.runtime.clock import SystemClock
from dwd.runtime.files import Buffer

PART_BYTES_MIN = 5 * 1024 * 1024
ALICE = Caller(user="alice", access_key="A", admin=False)
BOB = Caller(user="bob", access_key="B", admin=False)
ADMIN = Caller(user="root", access_key="R", admin=True)
HEADERS = ObjectHeaders(content_type="text/x", system={"cache-control": "no-cache"}, user={"colour": "blue"})
SIZES = (0, 1, 16_384, 16_385, 4 * 1024 * 1024, 9 * 1024 * 1024 + 3)


def soon() -> float:
    return SystemClock().monotonic() + 30


@dataclass(slots=True)
class Given:
    """A body of known bytes; `wrong` makes it fail at its end, as a bad digest does."""

    data: bytes
    kept: Checksum | None = None
    wrong: bool = False

    @property
    def length(self) -> int | None:
        return len(self.data)

    async def chunks(self) -> AsyncGenerator[Buffer, None]:
        for at in range(0, len(self.data), 3_000_000):
            yield memoryview(self.data)[at : at + 3_000_000]
        if self.wrong:
            raise InvalidArgument("s3.bad_digest", "does not match")

    def checksum(self) -> Checksum | None:
        return self.kept


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


async def put(objects: Objects, key: str, data: bytes = b"x", **how: Any) -> str:
    body = how.pop("body", None) or Given(data)
    info = await objects.put(
        ALICE, "bkt", key, body, headers=how.pop("headers", ObjectHeaders()), deadline=soon(), **how
    )
    return info.etag


async def get(objects: Objects, key: str, **how: Any) -> bytes:
    reader = await objects.open(ALICE, "bkt", key, deadline=soon(), **how)
    return b"".join([bytes(chunk) async for chunk in reader.chunks()])


async def keys(objects: Objects, **wanted: Any) -> tuple[list[str], list[str], bool, str]:
    page = await objects.list(ALICE, ListRequest(bucket="bkt", **wanted), deadline=soon())
    return [one.key for one in page.objects], list(page.prefixes), page.truncated, page.next_after


async def code_of(awaitable: Any, kind: type[DwError]) -> str:
    with pytest.raises(kind) as caught:
        await awaitable
    return caught.value.code


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class ObjectsContract:
    """The laws."""

    @pytest.fixture(autouse=True)
    async def bucket(self, objects: Objects) -> None:
        await objects.create_bucket(ALICE, "bkt", deadline=soon())

    async def test_bucket_belongs_to_who_made_it(self, objects: Objects) -> None:
        assert (await objects.bucket(ALICE, "bkt", deadline=soon())).owner == "alice"
        again = objects.create_bucket(ALICE, "bkt", deadline=soon())
        assert await code_of(again, AlreadyExists) == "objects.bucket_owned_by_you"
        other = objects.create_bucket(BOB, "bkt", deadline=soon())
        assert await code_of(other, AlreadyExists) == "objects.bucket_exists"
        await code_of(objects.bucket(BOB, "bkt", deadline=soon()), PermissionDenied)
        assert [one.name for one in await objects.buckets(ALICE, deadline=soon())] == ["bkt"]
        assert await objects.buckets(BOB, deadline=soon()) == ()
        assert [one.name for one in await objects.buckets(ADMIN, deadline=soon())] == ["bkt"]

    async def test_bucket_is_removed_only_when_empty(self, objects: Objects) -> None:
        await put(objects, "k")
        full = objects.delete_bucket(ALICE, "bkt", deadline=soon())
        assert await code_of(full, Conflict) == "objects.bucket_not_empty"
        await objects.delete(ALICE, "bkt", "k", deadline=soon())
        await objects.delete_bucket(ALICE, "bkt", deadline=soon())
        gone = objects.bucket(ALICE, "bkt", deadline=soon())
        assert await code_of(gone, NotFound) == "objects.no_such_bucket"

    @pytest.mark.parametrize("size", SIZES)
    async def test_object_comes_back_whole_and_in_ranges(self, objects: Objects, size: int) -> None:
        data = pattern(size)
        checksum = Checksum(kind=ChecksumKind.CRC32, value=b64encode(zlib.crc32(data).to_bytes(4, "big")).decode())
        assert await put(objects, "k", body=Given(data, checksum), headers=HEADERS) == md5(data)
        assert await get(objects, "k") == data
        info = await objects.head(ALICE, "bkt", "k", deadline=soon())
        assert (info.size, info.etag, info.headers, info.checksum, info.part_count) == (
            size, md5(data), HEADERS, checksum, 0,
        )  # fmt: skip
        if size:
            assert await get(objects, "k", wanted=RangeRequest(first=size // 2)) == data[size // 2 :]
            assert await get(objects, "k", wanted=RangeRequest(suffix=7)) == data[-7:]
            assert await get(objects, "k", wanted=RangeRequest(first=0, last=size + 5)) == data
        beyond = objects.open(ALICE, "bkt", "k", wanted=RangeRequest(first=size), deadline=soon())
        assert await code_of(beyond, InvalidArgument) == "objects.range_not_satisfiable"

    async def test_put_leaves_nothing_when_its_body_fails(self, objects: Objects) -> None:
        for size in (5, 9 * 1024 * 1024):
            failing = put(objects, "k", body=Given(pattern(size), wrong=True))
            assert await code_of(failing, InvalidArgument) == "s3.bad_digest"
            missing = objects.head(ALICE, "bkt", "k", deadline=soon())
            assert await code_of(missing, NotFound) == "objects.no_such_key"

    async def test_condition_is_judged_with_the_write(self, objects: Objects) -> None:
        created = Precondition(if_none_match=("*",))
        etag = await put(objects, "k", b"1", precondition=created)
        assert await code_of(put(objects, "k", b"2", precondition=created), Conflict) == "objects.precondition_failed"
        stale = Precondition(if_match=("0" * 32,))
        assert await code_of(put(objects, "k", b"2", precondition=stale), Conflict) == "objects.precondition_failed"
        await put(objects, "k", b"2", precondition=Precondition(if_match=(etag,)))
        assert await get(objects, "k") == b"2"
        racing = [put(objects, "race", b"%d" % one, precondition=created) for one in range(8)]
        results = await asyncio.gather(*racing, return_exceptions=True)
        assert sum(isinstance(one, str) for one in results) == 1

    async def test_delete_tells_whether_there_was_one(self, objects: Objects) -> None:
        await put(objects, "k")
        assert await objects.delete(ALICE, "bkt", "k", deadline=soon())
        assert not await objects.delete(ALICE, "bkt", "k", deadline=soon())

    async def test_listing_is_in_utf8_order_and_grouped(self, objects: Objects) -> None:
        for key in ("b/2", "a", "\uffee", "😀", "b/1", "b0", "c/d/e"):
            await put(objects, key)
        assert (await keys(objects))[0] == ["a", "b/1", "b/2", "b0", "c/d/e", "\uffee", "😀"]
        assert (await keys(objects, delimiter="/"))[:2] == (["a", "b0", "\uffee", "😀"], ["b/", "c/"])
        assert (await keys(objects, prefix="b/"))[0] == ["b/1", "b/2"]
        assert (await keys(objects, prefix="c/", delimiter="/"))[1] == ["c/d/"]
        first = await keys(objects, delimiter="/", limit=2)
        assert first == (["a"], ["b/"], True, "b/")
        rest = await keys(objects, delimiter="/", after=first[3])
        assert rest[:3] == (["b0", "\uffee", "😀"], ["c/"], False)
        assert (await keys(objects, after="b/1", limit=4))[2]

    async def test_copy_shares_bytes_and_takes_or_replaces_headers(self, objects: Objects) -> None:
        data = pattern(5_000_000)
        etag = await put(objects, "k", data, headers=HEADERS)
        source = CopySource(bucket="bkt", key="k", precondition=Precondition(if_match=(etag,)))
        copied = await objects.copy(ALICE, source, "bkt", "c", headers=None, deadline=soon())
        assert (copied.etag, copied.headers, copied.size) == (etag, HEADERS, len(data))
        await objects.delete(ALICE, "bkt", "k", deadline=soon())
        assert await get(objects, "c") == data
        missing = objects.copy(ALICE, source, "bkt", "d", headers=None, deadline=soon())
        assert await code_of(missing, NotFound) == "objects.no_such_key"
        stale = CopySource(bucket="bkt", key="c", precondition=Precondition(if_match=("0" * 32,)))
        refused = objects.copy(ALICE, stale, "bkt", "d", headers=HEADERS, deadline=soon())
        assert await code_of(refused, Conflict) == "objects.precondition_failed"

    async def test_parts_become_one_object(self, objects: Objects) -> None:
        upload = await objects.create_upload(ALICE, "bkt", "k", headers=HEADERS, checksum_kind=None, deadline=soon())
        pieces = {1: pattern(PART_BYTES_MIN), 3: pattern(PART_BYTES_MIN + 1), 9: b"end"}
        parts = []
        for number in (9, 1, 3):
            body = Given(pieces[number])
            part = await objects.put_part(ALICE, "bkt", "k", upload.upload_id, number, body, deadline=soon())
            assert (part.etag, part.size) == (md5(pieces[number]), len(pieces[number]))
            parts.append(CompletedPart(number=number, etag=part.etag))
        page = await objects.list_parts(ALICE, "bkt", "k", upload.upload_id, limit=2, deadline=soon())
        assert ([one.number for one in page.parts], page.truncated) == ([1, 3], True)
        parts.sort(key=lambda one: one.number)
        info = await objects.complete_upload(ALICE, "bkt", "k", upload.upload_id, tuple(parts), deadline=soon())
        digests = b"".join(bytes.fromhex(md5(pieces[number])) for number in (1, 3, 9))
        assert (info.etag, info.part_count, info.headers) == (f"{md5(digests)}-3", 3, HEADERS)
        assert await get(objects, "k") == pieces[1] + pieces[3] + pieces[9]
        assert await get(objects, "k", part_number=3) == b"end"
        again = objects.abort_upload(ALICE, "bkt", "k", upload.upload_id, deadline=soon())
        assert await code_of(again, NotFound) == "objects.no_such_upload"

    async def test_completion_is_refused_when_parts_do_not_fit(self, objects: Objects) -> None:
        upload = await objects.create_upload(ALICE, "bkt", "k", headers=HEADERS, checksum_kind=None, deadline=soon())
        etags = {}
        for number in (1, 2):
            part = await objects.put_part(ALICE, "bkt", "k", upload.upload_id, number, Given(b"x"), deadline=soon())
            etags[number] = part.etag
        for numbers, etag, expected in (
            ((1, 2), etags[1], "objects.part_too_small"),
            ((2, 1), etags[1], "objects.invalid_part_order"),
            ((1, 3), etags[1], "objects.invalid_part"),
            ((1,), "0" * 32, "objects.invalid_part"),
        ):
            parts = tuple(CompletedPart(number=number, etag=etag) for number in numbers)
            refused = objects.complete_upload(ALICE, "bkt", "k", upload.upload_id, parts, deadline=soon())
            assert await code_of(refused, InvalidArgument) == expected
        page = await objects.list_uploads(ALICE, "bkt", deadline=soon())
        assert [one.upload_id for one in page.uploads] == [upload.upload_id]
        await objects.abort_upload(ALICE, "bkt", "k", upload.upload_id, deadline=soon())
        assert (await objects.list_uploads(ALICE, "bkt", deadline=soon())).uploads == ()
