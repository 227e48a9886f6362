"""What an upload leaves behind when it fails at each of its steps: nothing, or what metadata will collect."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from dwd.base.errors import Conflict, DwError, InvalidArgument, OutcomeUnknown, Unavailable
from dwd.meta.client import MetaClient
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import DropStaged, PutObject, PutPart, StageBlocks
from dwd.meta.core.shard.queries import GetCounts
from dwd.objects.context import BLOCKS_WRITING_MAX
from dwd.objects.ports import ObjectHeaders, Precondition
from dwd.objects.upload import STAGE_EVERY_BLOCKS, WRITES_AHEAD
from tests.twins.meta_group import SHARD
from tests.twins.meta_nodes import soon, until
from tests.twins.object_node import INLINE_BYTES_MAX, ObjectNode
from tests.unit.objects.bodies import ADMIN, Pieces


async def put(node: ObjectNode, body: Any, *, key: str = "k", precondition: Precondition | None = None) -> Any:
    return await node.service.put(
        ADMIN, "bkt", key, body, headers=ObjectHeaders(), precondition=precondition or Precondition(), deadline=soon()
    )


async def counts(node: ObjectNode) -> tuple[int, int]:
    """Objects, and blocks that metadata answers for."""
    answer = await node.meta.read_group(SHARD, GetCounts(), deadline=soon())
    return answer.objects, answer.blocks


def failing(monkeypatch: pytest.MonkeyPatch, command: type[Any], error: DwError, *, after: bool = False) -> list[Any]:
    """Proposals of `command` fail: before they reach the log, or once they took effect. Returns what was proposed."""
    seen: list[Any] = []
    proposing = MetaClient.keyed

    async def keyed(self: MetaClient, wanted: Any, *, deadline: float) -> Receipt:
        seen.append(wanted)
        if not isinstance(wanted, command):
            return await proposing(self, wanted, deadline=deadline)
        if after:
            await proposing(self, wanted, deadline=deadline)
        raise error

    monkeypatch.setattr(MetaClient, "keyed", keyed)
    return seen


async def test_every_written_block_is_given_up_when_the_body_breaks_off(node: ObjectNode) -> None:
    with pytest.raises(InvalidArgument, match="does not match"):
        await put(node, Pieces(5, breaks=True))
    assert node.shelf.writes == 5
    assert (node.shelf.held, await counts(node)) == ({}, (0, 0))


async def test_other_blocks_are_given_up_when_one_cannot_be_written(node: ObjectNode) -> None:
    node.shelf.fail_at = 3
    with pytest.raises(Unavailable) as caught:
        await put(node, Pieces(6))
    assert caught.value.code == "test.write_failed"
    assert (node.shelf.held, await counts(node)) == ({}, (0, 0))


async def test_written_blocks_are_given_up_when_the_client_vanishes(node: ObjectNode) -> None:
    upload = asyncio.create_task(put(node, Pieces(4, hangs=True)))  # noqa: TID251
    await until(lambda: len(node.shelf.held) == 4)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert (node.shelf.held, await counts(node)) == ({}, (0, 0))


async def test_blocks_are_given_up_when_the_precondition_fails(node: ObjectNode) -> None:
    await put(node, Pieces(1))
    kept = set(node.shelf.held)
    with pytest.raises(Conflict):
        await put(node, Pieces(3), precondition=Precondition(if_none_match=("*",)))
    assert (set(node.shelf.held), len(node.shelf.discarded)) == (kept, 3)


@pytest.mark.parametrize("took_effect", [False, True])
async def test_blocks_stay_when_nobody_knows_whether_the_put_happened(
    node: ObjectNode, monkeypatch: pytest.MonkeyPatch, *, took_effect: bool
) -> None:
    failing(monkeypatch, PutObject, OutcomeUnknown("test.lost", "the answer got lost"), after=took_effect)
    with pytest.raises(OutcomeUnknown):
        await put(node, Pieces(2))
    assert (len(node.shelf.held), node.shelf.discarded) == (2, [])


async def test_blocks_are_given_up_when_the_put_certainly_did_not_happen(
    node: ObjectNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, PutObject, Unavailable("test.no_leader", "no leader"))
    with pytest.raises(Unavailable):
        await put(node, Pieces(2))
    assert node.shelf.held == {}


async def test_part_keeps_or_gives_up_its_blocks_as_a_put_does(
    node: ObjectNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await node.service.create_upload(
        ADMIN, "bkt", "k", headers=ObjectHeaders(), checksum_kind=None, deadline=soon()
    )
    error: DwError
    for error, kept in ((Unavailable("test.x", "no"), 0), (OutcomeUnknown("test.x", "who knows"), 1)):
        with monkeypatch.context() as patch:
            failing(patch, PutPart, error)
            with pytest.raises(type(error)):
                await node.service.put_part(ADMIN, "bkt", "k", made.upload_id, 1, Pieces(1), deadline=soon())
        assert len(node.shelf.held) == kept


async def test_no_byte_is_stored_when_a_part_names_no_upload(node: ObjectNode) -> None:
    with pytest.raises(DwError) as caught:
        await node.service.put_part(ADMIN, "bkt", "k", "f" * 32, 1, Pieces(1), deadline=soon())
    assert (caught.value.code, node.shelf.writes) == ("objects.no_such_upload", 0)


async def test_rows_are_staged_on_the_way_when_an_object_is_large(
    node: ObjectNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = failing(monkeypatch, DropStaged, Unavailable("test.unused", "no"))
    blocks = STAGE_EVERY_BLOCKS * 2 + 3
    await put(node, Pieces(blocks))
    staged = [command for command in seen if isinstance(command, StageBlocks)]
    (last,) = (command for command in seen if isinstance(command, PutObject))
    assert [(c.position, len(c.blocks)) for c in staged] == [(0, STAGE_EVERY_BLOCKS), (STAGE_EVERY_BLOCKS,) * 2]
    assert (len(last.blocks), last.staged) == (3, staged[0].staged)
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
    order = [bytes(piece[:1])[0] async for piece in reader.chunks()]
    assert order == list(range(blocks))


async def test_staged_rows_are_dropped_and_the_rest_given_up_when_a_large_upload_fails(
    node: ObjectNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = failing(monkeypatch, DropStaged, Unavailable("test.unused", "no"), after=True)
    with pytest.raises(InvalidArgument):
        await put(node, Pieces(STAGE_EVERY_BLOCKS + 4, breaks=True))
    (dropped,) = (command for command in seen if isinstance(command, DropStaged))
    (staged,) = (command for command in seen if isinstance(command, StageBlocks))
    assert dropped.staged == staged.staged
    named = {row.block for row in staged.blocks}
    assert set(node.shelf.held) == named, "metadata collects what it knows, nobody else may"
    assert len(node.shelf.discarded) == 4


@pytest.mark.parametrize("took_effect", [False, True])
async def test_staged_blocks_are_left_to_metadata_when_nobody_knows_whether_they_were_staged(
    node: ObjectNode, monkeypatch: pytest.MonkeyPatch, *, took_effect: bool
) -> None:
    seen = failing(monkeypatch, StageBlocks, OutcomeUnknown("test.lost", "the answer got lost"), after=took_effect)
    with pytest.raises(OutcomeUnknown):
        await put(node, Pieces(STAGE_EVERY_BLOCKS + 3))
    (staged,) = (command for command in seen if isinstance(command, StageBlocks))
    (dropped,) = (command for command in seen if isinstance(command, DropStaged))
    assert dropped.staged == staged.staged
    assert {row.block for row in staged.blocks} <= set(node.shelf.held)


async def test_blocks_are_given_up_when_they_certainly_were_not_staged(
    node: ObjectNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, StageBlocks, Unavailable("test.no_leader", "no leader"))
    with pytest.raises(Unavailable):
        await put(node, Pieces(STAGE_EVERY_BLOCKS + 3))
    assert node.shelf.held == {}


async def test_few_blocks_are_on_their_way_at_once_when_devices_are_slow(node: ObjectNode) -> None:
    node.shelf.gate = asyncio.Event()
    body = Pieces(9)
    upload = asyncio.create_task(put(node, body))  # noqa: TID251
    await until(lambda: (body.taken, node.shelf.writes) == (WRITES_AHEAD + 1, WRITES_AHEAD))
    for _ in range(5):
        await asyncio.sleep(0)
    assert node.shelf.writes == WRITES_AHEAD
    node.shelf.gate.set()
    await upload
    assert node.shelf.writes == 9


async def test_body_rides_in_its_command_exactly_up_to_the_inline_limit(node: ObjectNode) -> None:
    for size, writes in ((INLINE_BYTES_MAX, 0), (INLINE_BYTES_MAX + 1, 1)):
        body = Sized(size)
        await put(node, body)
        assert node.shelf.writes == writes
        reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
        assert b"".join([bytes(piece) async for piece in reader.chunks()]) == body.data


async def test_inline_bytes_lie_sealed_in_metadata(node: ObjectNode, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = failing(monkeypatch, DropStaged, Unavailable("test.unused", "no"))
    body = Sized(500)
    await put(node, body)
    (command,) = (c for c in seen if isinstance(c, PutObject))
    assert command.inline is not None
    assert body.data[:100] not in bytes(command.inline)


class Sized(Pieces):
    """One piece of `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(1)
        self.size = size

    @property
    def data(self) -> bytes:
        return b"s" * self.size

    async def chunks(self) -> Any:
        yield self.data


async def test_upload_waits_when_the_node_writes_as_many_blocks_as_it_may(node: ObjectNode) -> None:
    async with contextlib.AsyncExitStack() as taken, asyncio.timeout(20), asyncio.TaskGroup() as group:
        while not node.context.writing.locked():
            await taken.enter_async_context(node.context.writing)
        body = Pieces(3)
        putting = group.create_task(put(node, body))
        await until(lambda: body.taken == 1)
        for _ in range(100):
            await asyncio.sleep(0)
        assert (body.taken, node.shelf.writes) == (1, 0)
        await taken.aclose()
        await putting
    assert node.shelf.writes == 3


@pytest.mark.parametrize("body", [Pieces(5, breaks=True), Pieces(5)])
async def test_every_place_is_given_back_when_uploads_end_and_fail(node: ObjectNode, body: Pieces) -> None:
    for _ in range(BLOCKS_WRITING_MAX):
        with contextlib.suppress(InvalidArgument):
            await put(node, body)
    async with asyncio.timeout(20), contextlib.AsyncExitStack() as taken:
        for _ in range(BLOCKS_WRITING_MAX):
            await taken.enter_async_context(node.context.writing)
