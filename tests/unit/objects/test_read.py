"""Reading: one block ahead, nothing running after the reader was left, exact ranges."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dwd.base.errors import Busy, Corrupt, InvalidArgument, NotFound, Unavailable
from dwd.base.limits import BLOCK_BYTES
from dwd.objects.context import BLOCKS_HELD_MAX, NARROW_BYTES
from dwd.objects.core.ranges import RangeRequest
from dwd.objects.ports import ObjectHeaders
from tests.twins.meta_nodes import CLOCK, soon, until
from tests.twins.object_node import ObjectNode
from tests.unit.objects.bodies import ADMIN, Pieces

BLOCKS = 4
SIZE = BLOCKS * BLOCK_BYTES


@pytest.fixture
async def stored(node: ObjectNode) -> bytes:
    body = Pieces(BLOCKS)
    await node.service.put(ADMIN, "bkt", "k", body, headers=ObjectHeaders(), deadline=soon())
    return body.data


async def test_one_block_is_fetched_ahead_when_a_client_reads_slowly(node: ObjectNode, stored: bytes) -> None:
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
    chunks = reader.chunks()
    assert bytes((await anext(aiter(chunks)))[:1]) == stored[:1]
    await until(lambda: node.shelf.reads_ended == 2)
    assert [number for number, _, _ in node.shelf.reads] == [1, 2]
    await chunks.aclose()  # type: ignore[attr-defined]


async def test_fetch_ahead_ends_when_the_client_goes_away(node: ObjectNode, stored: bytes) -> None:
    assert stored
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
    node.shelf.read_gate = asyncio.Event()
    taking = asyncio.create_task(anext(aiter(reader.chunks())))  # noqa: TID251
    await until(lambda: len(node.shelf.reads) == 2)
    taking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await taking
    await until(lambda: node.shelf.reads_ended == 2)
    assert len(node.shelf.reads) == 2


async def test_reader_says_so_when_a_block_is_lost(node: ObjectNode, stored: bytes) -> None:
    del node.shelf.held[list(node.shelf.held)[2]]
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
    chunks = aiter(reader.chunks())
    received = bytes(await anext(chunks)) + bytes(await anext(chunks))
    with pytest.raises(Corrupt) as caught:
        await anext(chunks)
    assert (caught.value.code, received) == ("test.gone", stored[: 2 * BLOCK_BYTES])


async def test_only_the_blocks_of_the_range_are_read(node: ObjectNode, stored: bytes) -> None:
    wanted = RangeRequest(first=BLOCK_BYTES + 7, last=2 * BLOCK_BYTES + 9)
    reader = await node.service.open(ADMIN, "bkt", "k", wanted=wanted, deadline=soon())
    received = b"".join([bytes(piece) async for piece in reader.chunks()])
    assert received == stored[BLOCK_BYTES + 7 : 2 * BLOCK_BYTES + 10]
    assert node.shelf.reads == [(2, 7, BLOCK_BYTES - 7), (3, 0, 10)]


@given(
    first=st.one_of(st.none(), st.integers(0, SIZE + 10)),
    span=st.one_of(st.none(), st.integers(0, SIZE)),
    suffix=st.integers(0, SIZE + 10),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_range_is_the_slice_it_names(
    node: ObjectNode, stored: bytes, first: int | None, span: int | None, suffix: int
) -> None:
    if first is None:
        wanted = RangeRequest(suffix=suffix)
        expected = stored[SIZE - min(suffix, SIZE) :] if suffix else b""
    else:
        wanted = RangeRequest(first=first, last=None if span is None else first + span)
        expected = stored[first:] if span is None else stored[first : first + span + 1]
    opening = node.service.open(ADMIN, "bkt", "k", wanted=wanted, deadline=soon())
    if not expected:
        with pytest.raises(InvalidArgument, match="outside"):
            await opening
        return
    reader = await opening
    assert b"".join([bytes(piece) async for piece in reader.chunks()]) == expected
    assert reader.range.end - reader.range.start == len(expected)


async def test_reader_goes_on_with_what_it_opened_when_the_object_is_replaced(node: ObjectNode, stored: bytes) -> None:
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
    await node.service.put(ADMIN, "bkt", "k", Pieces(1), headers=ObjectHeaders(), deadline=soon())
    assert b"".join([bytes(piece) async for piece in reader.chunks()]) == stored


async def test_key_of_another_bucket_is_not_found(node: ObjectNode, stored: bytes) -> None:
    assert stored
    with pytest.raises(NotFound) as caught:
        await node.service.open(ADMIN, "other", "k", deadline=soon())
    assert caught.value.code == "objects.no_such_bucket"


async def test_block_is_asked_for_again_when_its_nodes_are_busy_for_a_moment(
    node: ObjectNode, stored: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, refusals = type(node.shelf).read, [Busy("blocks.node_busy", "full"), Unavailable("blocks.unreadable", "")]

    async def read(*arguments: Any, **named: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await reading(*arguments, **named)

    monkeypatch.setattr(type(node.shelf), "read", read)
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
    assert b"".join([bytes(piece) async for piece in reader.chunks()]) == stored
    assert not refusals


async def test_reading_goes_on_when_the_deadline_of_opening_has_passed(node: ObjectNode, stored: bytes) -> None:
    deadline = CLOCK.monotonic() + 0.5
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=deadline)
    chunks = reader.chunks()
    received = bytes(await anext(chunks))
    await until(lambda: CLOCK.monotonic() > deadline)
    assert received + b"".join([bytes(piece) async for piece in chunks]) == stored


async def test_only_narrow_spans_are_fetched_when_all_places_for_blocks_are_taken(
    node: ObjectNode, stored: bytes
) -> None:
    async with contextlib.AsyncExitStack() as taken:
        while not node.context.held.locked():
            await taken.enter_async_context(node.context.held)
        reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
        chunks = reader.chunks()
        assert bytes(await anext(chunks)) == stored[:NARROW_BYTES]
        assert len(node.shelf.reads) == 1
        assert b"".join([bytes(piece) async for piece in chunks]) == stored[NARROW_BYTES:]
        assert {length for _, _, length in node.shelf.reads[:-1]} == {NARROW_BYTES}
    assert not node.context.reading.locked()


async def test_places_for_blocks_are_given_back_when_clients_stall_and_leave(node: ObjectNode, stored: bytes) -> None:
    stalled = []
    for _ in range(BLOCKS_HELD_MAX):
        reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
        chunks = reader.chunks()
        assert bytes(await anext(chunks))
        stalled.append(chunks)
    assert node.context.held.locked()
    for chunks in stalled:
        await chunks.aclose()
    for _ in range(BLOCKS_HELD_MAX):
        assert not node.context.held.locked()
        await node.context.held.acquire()
