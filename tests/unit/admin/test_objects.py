"""Objects through the admin service: an upload is stored whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dwd.admin.rpc import objects
from dwd.base.errors import Conflict, InvalidArgument, NotFound
from dwd.base.limits import CHUNK_BYTES
from dwd.objects.ports import Caller
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.runtime.clock import SystemClock
from tests.twins.memory_objects import MemoryObjects

CLOCK = SystemClock()


class Admin:
    """What the verbs use of their context."""

    def __init__(self) -> None:
        self.objects = MemoryObjects(CLOCK)

    def deadline(self, seconds: float = 25.0) -> float:
        return CLOCK.monotonic() + seconds


@pytest.fixture
async def admin() -> Any:
    made = Admin()
    await made.objects.create_bucket(Caller(user="u", access_key="", admin=True), "b", deadline=made.deadline())
    return made


async def requests(*chunks: bytes, **head: Any) -> AsyncIterator[pb.PutObjectRequest]:
    yield pb.PutObjectRequest(head=pb.PutObjectRequest.Head(bucket="b", key="k", **head))
    for chunk in chunks:
        yield pb.PutObjectRequest(chunk=chunk)


async def stored(admin: Any) -> bytes | None:
    try:
        found = [part async for part in objects.get(admin, pb.GetObjectRequest(bucket="b", key="k"))]
    except NotFound:
        return None
    assert found[0].HasField("head")
    assert all(len(part.chunk) <= CHUNK_BYTES for part in found[1:])
    return b"".join(part.chunk for part in found[1:])


async def test_object_comes_back_in_bounded_chunks(admin: Any) -> None:
    data = b"x" * (2 * CHUNK_BYTES + 5)
    made = await objects.put(admin, requests(data, size=len(data), content_type="text/x", metadata={"a": "b"}))
    assert (made.size, made.content_type, dict(made.metadata)) == (len(data), "text/x", {"a": "b"})
    assert await stored(admin) == data


@pytest.mark.parametrize("size", [4, 6])
async def test_nothing_is_stored_when_fewer_or_more_bytes_come_than_announced(admin: Any, size: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await objects.put(admin, requests(b"12345", size=size))
    assert caught.value.code == "admin.put_cut_off"
    assert await stored(admin) is None


async def test_nothing_is_stored_when_the_stream_is_malformed(admin: Any) -> None:
    async def no_head() -> AsyncIterator[pb.PutObjectRequest]:
        yield pb.PutObjectRequest(chunk=b"x")

    async def nothing() -> AsyncIterator[pb.PutObjectRequest]:
        for never in ():
            yield never

    async def two_heads() -> AsyncIterator[pb.PutObjectRequest]:
        async for request in requests(b"x"):
            yield request
        async for request in requests():
            yield request

    for stream in (no_head(), nothing(), two_heads()):
        with pytest.raises(InvalidArgument, match="upload"):
            await objects.put(admin, stream)
    assert await stored(admin) is None


async def test_existing_object_is_kept_when_only_a_new_one_is_wanted(admin: Any) -> None:
    await objects.put(admin, requests(b"one"))
    with pytest.raises(Conflict):
        await objects.put(admin, requests(b"two", only_if_absent=True))
    assert await stored(admin) == b"one"


async def test_listing_is_bounded_and_says_where_to_go_on(admin: Any) -> None:
    for key in ("a", "b/1", "c"):
        head = pb.PutObjectRequest(head=pb.PutObjectRequest.Head(bucket="b", key=key))

        async def one(head: pb.PutObjectRequest = head) -> AsyncIterator[pb.PutObjectRequest]:
            yield head

        await objects.put(admin, one())
    page = await objects.list_objects(admin, pb.ListObjectsRequest(bucket="b", delimiter="/", limit=2))
    assert ([o.key for o in page.objects], list(page.prefixes), page.truncated) == (["a"], ["b/"], True)
    rest = await objects.list_objects(admin, pb.ListObjectsRequest(bucket="b", delimiter="/", after=page.next_after))
    assert ([o.key for o in rest.objects], rest.truncated) == (["c"], False)
