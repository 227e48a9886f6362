"""Objects compressed and encrypted, through the real service over a shelf of blocks."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from dwd.base.errors import Conflict, Corrupt, DwError, InvalidArgument, PermissionDenied, Unavailable
from dwd.base.limits import BLOCK_BYTES
from dwd.meta.core.shard.queries import GetObject
from dwd.objects.core.packing import SEALED, ZSTD
from dwd.objects.core.ranges import RangeRequest
from dwd.objects.encryption import NOT_ENCRYPTED, Encryption, EncryptionMode
from dwd.objects.ports import CompletedPart, CopySource, ObjectHeaders
from tests.contract.objects_contract import Given
from tests.twins.meta_nodes import soon
from tests.twins.object_node import ObjectNode
from tests.unit.objects.bodies import ADMIN

CLUSTER = Encryption(mode=EncryptionMode.CLUSTER)
KEY, OTHER_KEY = bytes(range(32)), bytes(32)
CUSTOMER = Encryption(mode=EncryptionMode.CUSTOMER_KEY, customer_key=KEY)
MARK = b"a plain sentence that nobody may find again; "
LARGE = (MARK * (2 * BLOCK_BYTES // len(MARK) + 9_000))[: 2 * BLOCK_BYTES + 333_333]


async def put(node: ObjectNode, key: str, data: bytes, encryption: Encryption | None = None, **headers: str) -> None:
    made = ObjectHeaders(content_type=headers.get("content_type", "text/plain"))
    await node.service.put(ADMIN, "bkt", key, Given(data), headers=made, encryption=encryption, deadline=soon())


async def get(node: ObjectNode, key: str, *, bucket: str = "bkt", **how: object) -> bytes:
    reader = await node.service.open(ADMIN, bucket, key, deadline=soon(), **how)  # type: ignore[arg-type]
    return b"".join([bytes(piece) async for piece in reader.chunks()])


async def setting(node: ObjectNode, compression: int, encryption: Encryption) -> None:
    await node.service.set_bucket_at_rest(ADMIN, "bkt", compression=compression, encryption=encryption, deadline=soon())


def lies_plain(node: ObjectNode) -> bool:
    return any(MARK in bytes(data) for data in node.shelf.held.values())


@pytest.mark.parametrize(
    ("level", "encryption", "packing"),
    [(0, NOT_ENCRYPTED, 0), (1, NOT_ENCRYPTED, ZSTD), (0, CLUSTER, SEALED), (3, CLUSTER, ZSTD | SEALED)],
)
async def test_objects_come_back_whole_and_by_range_when_packed(
    node: ObjectNode, level: int, encryption: Encryption, packing: int
) -> None:
    await setting(node, level, encryption)
    for size in (0, 1, 500, 16_384, 16_385, BLOCK_BYTES, len(LARGE)):
        await put(node, f"k{size}", LARGE[:size])
        assert await get(node, f"k{size}") == LARGE[:size]
        info = await node.service.head(ADMIN, "bkt", f"k{size}", deadline=soon())
        assert (info.size, info.encryption) == (size, encryption)
    for first, last in ((0, 0), (BLOCK_BYTES - 1, BLOCK_BYTES), (65_535, 65_536), (len(LARGE) - 1, len(LARGE) - 1)):
        found = await get(node, f"k{len(LARGE)}", wanted=RangeRequest(first=first, last=last))
        assert found == LARGE[first : last + 1]
    answer = await node.meta.read(GetObject(bucket="bkt", key=f"k{len(LARGE)}"), deadline=soon())
    assert {placed.owned.stored.packing for placed in answer.blocks} == {packing}
    assert lies_plain(node) == (packing in {0, ZSTD})  # a compressed block holds each sentence once


async def test_only_the_needed_records_are_fetched_when_a_range_is_read(node: ObjectNode) -> None:
    noise = os.urandom(BLOCK_BYTES)
    await setting(node, 1, CLUSTER)
    await put(node, "noise", noise)
    await put(node, "text", LARGE[:BLOCK_BYTES])
    for key, data, bytes_max in (("noise", noise, 2 * 65_552), ("text", LARGE, 2 * 65_552 + 32_768)):
        node.shelf.reads.clear()
        assert await get(node, key, wanted=RangeRequest(first=700_000, last=700_099)) == data[700_000:700_100]
        assert 100 < sum(length for _, _, length in node.shelf.reads) <= bytes_max


async def test_blocks_of_one_object_do_not_open_in_each_others_place_when_rows_are_exchanged(node: ObjectNode) -> None:
    await put(node, "a", os.urandom(2 * BLOCK_BYTES), CLUSTER)
    await put(node, "b", os.urandom(2 * BLOCK_BYTES), CLUSTER)
    answer = await node.meta.read(GetObject(bucket="bkt", key="a"), deadline=soon())
    other = await node.meta.read(GetObject(bucket="bkt", key="b"), deadline=soon())
    first, second = (placed.owned.stored.block for placed in answer.blocks)
    shelf = node.shelf.held
    shelf[first], shelf[second] = shelf[second], shelf[first]
    with pytest.raises(Corrupt):
        await get(node, "a")
    shelf[first], shelf[second] = shelf[second], shelf[other.blocks[1].owned.stored.block]
    with pytest.raises(Corrupt):
        await get(node, "a")


async def test_a_put_is_refused_when_the_bucket_was_changed_to_encrypt_meanwhile(node: ObjectNode) -> None:
    class Slow(Given):
        async def chunks(self):  # type: ignore[no-untyped-def]
            yield memoryview(self.data)[:BLOCK_BYTES]
            await setting(node, 0, CLUSTER)
            yield memoryview(self.data)[BLOCK_BYTES:]

    with pytest.raises(Unavailable, match="changed meanwhile"):
        await node.service.put(ADMIN, "bkt", "k", Slow(LARGE), headers=ObjectHeaders(), deadline=soon())
    await put(node, "k", LARGE)
    assert (await node.service.head(ADMIN, "bkt", "k", deadline=soon())).encryption == CLUSTER


async def test_objects_of_every_setting_stay_readable_when_the_bucket_changes(node: ObjectNode) -> None:
    settings = [(0, NOT_ENCRYPTED), (1, CLUSTER), (1, NOT_ENCRYPTED), (0, CLUSTER)]
    for number, (level, encryption) in enumerate(settings):
        await setting(node, level, encryption)
        await put(node, f"small{number}", LARGE[:3_000])
        await put(node, f"large{number}", LARGE)
    for number in range(len(settings)):
        assert await get(node, f"small{number}") == LARGE[:3_000]
        assert await get(node, f"large{number}") == LARGE


@pytest.mark.parametrize("size", [0, 1_000, len(LARGE)])
async def test_a_customers_key_opens_and_no_other_does_when_it_sealed(node: ObjectNode, size: int) -> None:
    await setting(node, 1, NOT_ENCRYPTED)
    await put(node, "k", LARGE[:size], CUSTOMER)
    assert await get(node, "k", customer_key=KEY) == LARGE[:size]
    assert not lies_plain(node)
    info = await node.service.head(ADMIN, "bkt", "k", customer_key=KEY, deadline=soon())
    assert info.encryption == Encryption(mode=EncryptionMode.CUSTOMER_KEY)
    assert KEY.hex() not in repr(info) + repr(CUSTOMER)
    for how, kind, code in (
        ({}, InvalidArgument, "objects.customer_key_needed"),
        ({"customer_key": OTHER_KEY}, PermissionDenied, "objects.customer_key_wrong"),
    ):
        for ask in (node.service.open, node.service.head):
            with pytest.raises(kind) as caught:
                await ask(ADMIN, "bkt", "k", deadline=soon(), **how)  # type: ignore[operator]
            assert caught.value.code == code
    await put(node, "open", b"x")
    with pytest.raises(InvalidArgument) as caught_again:
        await get(node, "open", customer_key=KEY)
    assert caught_again.value.code == "objects.customer_key_not_used"


async def test_copies_share_blocks_inside_an_encrypted_bucket_and_keep_their_key(node: ObjectNode) -> None:
    await setting(node, 0, CLUSTER)
    await put(node, "from", LARGE)
    count = len(node.shelf.held)
    await node.service.copy(ADMIN, CopySource(bucket="bkt", key="from"), "bkt", "to", headers=None, deadline=soon())
    assert len(node.shelf.held) == count
    await node.service.delete(ADMIN, "bkt", "from", deadline=soon())
    assert await get(node, "to") == LARGE


async def test_copies_move_bytes_when_keys_may_not_be_shared(node: ObjectNode) -> None:
    await node.service.create_bucket(ADMIN, "other", encryption=CLUSTER, deadline=soon())
    await put(node, "plain", LARGE)
    await put(node, "sealed", LARGE, CLUSTER)
    await put(node, "theirs", LARGE, CUSTOMER)
    cases = [
        (CopySource(bucket="bkt", key="plain"), "bkt", CLUSTER, b""),
        (CopySource(bucket="bkt", key="sealed"), "bkt", None, b""),
        (CopySource(bucket="bkt", key="sealed"), "other", None, b""),
        (CopySource(bucket="bkt", key="theirs", customer_key=KEY), "other", None, b""),
        (
            CopySource(bucket="bkt", key="theirs", customer_key=KEY), "bkt",
            replace(CUSTOMER, customer_key=OTHER_KEY), OTHER_KEY,
        ),
    ]  # fmt: skip
    for source, bucket, encryption, customer_key in cases:
        count = len(node.shelf.held)
        await node.service.copy(ADMIN, source, bucket, "copy", headers=None, encryption=encryption, deadline=soon())
        assert len(node.shelf.held) == count + 3
        assert await get(node, "copy", bucket=bucket, customer_key=customer_key) == LARGE
    with pytest.raises(DwError):
        await node.service.copy(
            ADMIN, CopySource(bucket="bkt", key="theirs"), "bkt", "copy", headers=None, deadline=soon()
        )


async def test_a_copy_is_refused_when_its_source_was_stored_anew_under_another_key(node: ObjectNode) -> None:
    """Same bytes, same etag, but other blocks: what was wrapped for the copy is not their key."""
    await setting(node, 0, CLUSTER)
    await put(node, "from", LARGE)
    propose, done = node.meta.keyed, False

    async def late(command, *, deadline):  # type: ignore[no-untyped-def]
        nonlocal done
        if type(command).__name__ == "CopyInsideShard" and not done:
            done = True
            await put(node, "from", LARGE)
        return await propose(command, deadline=deadline)

    node.meta.keyed = late  # type: ignore[method-assign]
    source = CopySource(bucket="bkt", key="from")
    with pytest.raises(Conflict, match="changed meanwhile"):
        await node.service.copy(ADMIN, source, "bkt", "to", headers=None, deadline=soon())


@pytest.mark.parametrize("encryption", [CLUSTER, CUSTOMER])
async def test_parts_have_keys_of_their_own_when_an_upload_is_encrypted(
    node: ObjectNode, encryption: Encryption
) -> None:
    await setting(node, 1, NOT_ENCRYPTED)
    begun = await node.service.create_upload(
        ADMIN, "bkt", "k", headers=ObjectHeaders(), checksum_kind=None, encryption=encryption, deadline=soon()
    )
    key, data = encryption.customer_key, LARGE[: 5 * 1024 * 1024 + 7]
    parts = [
        await node.service.put_part(
            ADMIN, "bkt", "k", begun.upload_id, number, Given(data), customer_key=key, deadline=soon()
        )
        for number in (1, 1, 2, 3)
    ]
    if key:
        with pytest.raises(PermissionDenied):
            await node.service.put_part(
                ADMIN, "bkt", "k", begun.upload_id, 4, Given(b"x"), customer_key=OTHER_KEY, deadline=soon()
            )
    chosen = tuple(CompletedPart(number=part.number, etag=part.etag) for part in parts[1:])
    await node.service.complete_upload(ADMIN, "bkt", "k", begun.upload_id, chosen, deadline=soon())
    assert await get(node, "k", customer_key=key) == 3 * data
    assert await get(node, "k", part_number=2, customer_key=key) == data
    middle = RangeRequest(first=len(data) - 10, last=2 * len(data) + 10)
    assert await get(node, "k", wanted=middle, customer_key=key) == (3 * data)[len(data) - 10 : 2 * len(data) + 11]
    answer = await node.meta.read(GetObject(bucket="bkt", key="k"), deadline=soon())
    assert len({placed.salt for placed in answer.blocks}) == 3
    stored = [bytes(node.shelf.held[placed.owned.stored.block]) for placed in answer.blocks]
    assert len({one[:64] for one in stored}) == len(stored)  # the same bytes at the same places, other ciphertext


async def test_compressed_types_are_left_alone_when_the_bucket_compresses(node: ObjectNode) -> None:
    await setting(node, 1, NOT_ENCRYPTED)
    await put(node, "film", LARGE, content_type="video/mp4")
    answer = await node.meta.read(GetObject(bucket="bkt", key="film"), deadline=soon())
    assert {placed.owned.stored.packing for placed in answer.blocks} == {0}


async def test_usage_tells_what_is_saved_when_blocks_are_packed(node: ObjectNode) -> None:
    from dwd.meta.core.shard.queries import GetUsage  # noqa: PLC0415

    await setting(node, 1, CLUSTER)
    await put(node, "k", LARGE)
    (group,) = node.meta.shards()
    (usage,) = (await node.meta.read_group(group, GetUsage(bucket="bkt"), deadline=soon())).buckets
    assert usage.packed == len(LARGE)
    assert usage.stored == sum(map(len, node.shelf.held.values())) < len(LARGE) // 10
    await node.service.delete(ADMIN, "bkt", "k", deadline=soon())
    left = (await node.meta.read_group(group, GetUsage(bucket="bkt"), deadline=soon())).buckets
    assert [(one.packed, one.stored) for one in left] in ([], [(0, 0)])


async def test_an_object_is_encrypted_anew_when_it_is_copied_onto_itself(node: ObjectNode) -> None:
    await put(node, "k", LARGE)
    for _ in range(2):
        await node.service.copy(
            ADMIN, CopySource(bucket="bkt", key="k"), "bkt", "k", headers=None, encryption=CLUSTER, deadline=soon()
        )
        assert (await node.service.head(ADMIN, "bkt", "k", deadline=soon())).encryption == CLUSTER
        assert await get(node, "k") == LARGE
