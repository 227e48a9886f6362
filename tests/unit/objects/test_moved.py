"""Blocks that are stored anew while somebody reads, and buckets that change their policy while somebody writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dwd.base.blocks import StoredBlock
from dwd.base.errors import Corrupt, DwError
from dwd.base.ids import BlockId, stamp_of
from dwd.base.limits import BLOCK_BYTES
from dwd.base.policy import Policy
from dwd.meta.core.control.commands import SetBucketPolicy
from dwd.meta.core.shard.commands import ReplaceBlock, UnsealBucket
from dwd.meta.core.shard.queries import BlockPage
from dwd.objects.ports import CopySource, ObjectHeaders
from tests.twins.meta_nodes import CLOCK, soon
from tests.twins.object_node import ObjectNode
from tests.unit.objects.bodies import ADMIN, Pieces


async def rows(node: ObjectNode) -> list[StoredBlock]:
    (group,) = node.meta.holders("bkt")
    page = await node.meta.read_group(group, BlockPage(first=0, last=0xFFFF), deadline=soon())
    return sorted((owned.stored for owned in page.blocks), key=lambda row: row.block)


async def move(node: ObjectNode, old: StoredBlock) -> None:
    """Under a new id; the old bytes are collected at once."""
    (group,) = node.meta.holders("bkt")
    block = BlockId(stamp_of(CLOCK.unix_ms()).to_bytes(8) + b"moved!" + old.block[-2:])
    node.shelf.held[block] = node.shelf.held.pop(old.block)
    await node.meta.shard(group, ReplaceBlock(old=old, new=replace(old, block=block)), deadline=soon())


async def test_a_reader_goes_on_when_blocks_are_stored_anew_under_its_hands(node: ObjectNode) -> None:
    body = Pieces(4)
    await node.service.put(ADMIN, "bkt", "k", body, headers=ObjectHeaders(), deadline=soon())
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
    received, moved = b"", False
    async for piece in reader.chunks():
        received += bytes(piece)
        if not moved and len(received) >= BLOCK_BYTES:
            moved = True
            for old in await rows(node):
                await move(node, old)
    assert received == body.data


async def test_a_reader_is_told_when_its_object_was_replaced_and_collected(node: ObjectNode) -> None:
    await node.service.put(ADMIN, "bkt", "k", Pieces(4), headers=ObjectHeaders(), deadline=soon())
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
    await node.service.put(ADMIN, "bkt", "k", Pieces(2), headers=ObjectHeaders(), deadline=soon())
    for block in list(node.shelf.held)[:4]:
        del node.shelf.held[block]
    with pytest.raises(Corrupt):
        _ = [piece async for piece in reader.chunks()]


async def set_policy(node: ObjectNode, profile: str) -> None:
    epoch = (await node.meta.control(SetBucketPolicy(name="bkt", profile=profile), deadline=soon())).count
    for group in node.meta.holders("bkt"):
        await node.meta.shard(group, UnsealBucket(bucket="bkt", bucket_epoch=epoch), deadline=soon())


@pytest.mark.parametrize("blocks", [2, 34])
async def test_a_write_that_began_before_the_policy_changed_says_what_its_blocks_should_be(
    node: ObjectNode, blocks: int
) -> None:
    body = Pieces(blocks)
    chunks = body.chunks

    async def changing() -> object:
        async for chunk in chunks():
            if body.taken == 2:
                await set_policy(node, "rs-6-3")
            yield chunk

    body_with_change = _Body(body, changing)
    await node.service.put(ADMIN, "bkt", "k", body_with_change, headers=ObjectHeaders(), deadline=soon())
    assert {row.wanted for row in await rows(node)} == {"rs-6-3"}
    reader = await node.service.open(ADMIN, "bkt", "k", deadline=soon())
    assert b"".join([bytes(piece) async for piece in reader.chunks()]) == body.data


class _Body:
    def __init__(self, body: Pieces, chunks: object) -> None:
        self._body, self.chunks = body, chunks
        self.length = None

    def checksum(self) -> None:
        return None


async def test_new_writes_follow_the_policy_at_once(node: ObjectNode) -> None:
    await set_policy(node, "rs-6-3")
    await node.service.put(ADMIN, "bkt", "k", Pieces(1), headers=ObjectHeaders(), deadline=soon())
    assert node.shelf.policies == [Policy(profile="rs-6-3")]
    assert {row.wanted for row in await rows(node)} == {""}


async def test_a_copy_into_another_bucket_has_its_own_blocks(node: ObjectNode) -> None:
    body = Pieces(1)
    await node.service.put(ADMIN, "bkt", "k", body, headers=ObjectHeaders(), deadline=soon())
    await node.service.create_bucket(ADMIN, "other", policy=Policy(profile="replica-2"), deadline=soon())
    for bucket, made in (("bkt", 1), ("other", 2)):
        await node.service.copy(ADMIN, CopySource(bucket="bkt", key="k"), bucket, "copy", headers=None, deadline=soon())
        assert len(node.shelf.held) == made
    assert node.shelf.policies[-1] == Policy(profile="replica-2")


async def test_a_bucket_is_refused_when_its_profile_is_not_one(node: ObjectNode) -> None:
    with pytest.raises(DwError) as refused:
        await node.service.create_bucket(ADMIN, "odd", policy=Policy(profile="raid7"), deadline=soon())
    assert refused.value.code == "blocks.unknown_profile"
