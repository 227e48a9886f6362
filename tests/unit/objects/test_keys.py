"""Keys that S3 does not allow are refused by the service itself, whichever door a request came through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dwd.base.errors import InvalidArgument
from dwd.base.limits import KEY_BYTES_MAX
from dwd.objects.ports import CopySource, ObjectHeaders
from tests.twins.meta_nodes import soon
from tests.twins.object_node import ObjectNode
from tests.unit.objects.bodies import ADMIN, Pieces

Verb = Callable[[ObjectNode, str], Awaitable[Any]]


async def put(node: ObjectNode, key: str) -> Any:
    return await node.service.put(ADMIN, "bkt", key, Pieces(1), headers=ObjectHeaders(), deadline=soon())


async def create_upload(node: ObjectNode, key: str) -> Any:
    return await node.service.create_upload(
        ADMIN, "bkt", key, headers=ObjectHeaders(), checksum_kind=None, deadline=soon()
    )


async def copy(node: ObjectNode, key: str) -> Any:
    source = CopySource(bucket="bkt", key="source")
    return await node.service.copy(ADMIN, source, "bkt", key, headers=None, deadline=soon())


@pytest.mark.parametrize("verb", [put, create_upload, copy])
async def test_key_is_refused_when_it_is_too_long_or_holds_nul(node: ObjectNode, verb: Verb) -> None:
    await put(node, "source")
    written = node.shelf.writes
    for key, code in (("k" * (KEY_BYTES_MAX + 1), "objects.key_too_long"), ("a\0b", "objects.invalid_key")):
        with pytest.raises(InvalidArgument) as caught:
            await verb(node, key)
        assert caught.value.code == code
    assert node.shelf.writes == written


@pytest.mark.parametrize("verb", [put, create_upload, copy])
async def test_key_is_taken_when_it_is_as_long_as_may_be(node: ObjectNode, verb: Verb) -> None:
    await put(node, "source")
    assert (await verb(node, "ü" * (KEY_BYTES_MAX // 2))).key == "ü" * (KEY_BYTES_MAX // 2)
