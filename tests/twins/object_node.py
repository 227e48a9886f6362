"""The real object service of a node in one process: metadata in a real database, blocks on a shelf."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dwd.base.ids import NodeId
from dwd.meta.client import MetaClient
from dwd.objects.at_rest import ObjectKeys
from dwd.objects.context import Context
from dwd.objects.service import ObjectService
from dwd.runtime.tasks import Tasks
from dwd.security.keyring import new_keyring
from tests.twins.block_shelf import BlockShelf
from tests.twins.meta_nodes import CLOCK, running

INLINE_BYTES_MAX = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectNode:
    """`read_ahead_failures`: what reads ahead ended with that nobody awaited."""

    service: ObjectService
    context: Context
    shelf: BlockShelf
    meta: MetaClient
    read_ahead_failures: list[BaseException]


@asynccontextmanager
async def object_node(root: Path) -> AsyncIterator[ObjectNode]:
    """One node that leads everything."""
    failures: list[BaseException] = []
    shelf = BlockShelf()
    with ThreadPoolExecutor(1) as hashing:
        async with running(root, 1) as nodes, Tasks("objects", lambda _name, error: failures.append(error)) as tasks:
            meta = nodes[NodeId(1)].client
            context = Context(
                meta=meta,
                blocks=shelf,
                keys=ObjectKeys(new_keyring(), meta.view),
                clock=CLOCK,
                hashing=hashing,
                tasks=tasks,
                inline_bytes_max=INLINE_BYTES_MAX,
            )
            yield ObjectNode(
                service=ObjectService(context), context=context, shelf=shelf, meta=meta, read_ahead_failures=failures
            )
