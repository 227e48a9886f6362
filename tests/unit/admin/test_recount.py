"""Totals of a recount are those of every shard, each counted once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.admin.rpc import recount
from dwd.base.errors import Unavailable
from dwd.base.ids import NodeId
from dwd.meta.core.control.rows import Liveness
from dwd.pb.admin.v1 import admin_pb2 as pb

SHARDS = (1, 2)


def context() -> Any:
    nodes = [SimpleNamespace(node=NodeId(n), liveness=Liveness.UP) for n in (1, 2, 3)]
    view = SimpleNamespace(topology=lambda: SimpleNamespace(nodes=nodes))
    return SimpleNamespace(meta=SimpleNamespace(view=view, shards=lambda: SHARDS))


async def count(monkeypatch: pytest.MonkeyPatch, counted: dict[int, tuple[int, ...]]) -> pb.RecountProgress:
    async def of(_: object, node: NodeId, *, verify_pages: bool) -> AsyncIterator[pb.RecountProgress]:
        assert verify_pages
        yield pb.RecountProgress(blocks_done=1)
        groups = counted[node]
        yield pb.RecountProgress(finished=True, blocks_done=10 * len(groups), groups=groups)

    monkeypatch.setattr(recount, "_of", of)
    told = [progress async for progress in recount.everywhere(context(), verify_pages=True)]
    return told[-1]


async def test_totals_are_added_up_when_every_shard_was_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    last = await count(monkeypatch, {1: (2,), 2: (), 3: (1,)})
    assert (last.finished, last.blocks_done) == (True, 20)


@pytest.mark.parametrize("counted", [{1: (1,), 2: (), 3: ()}, {1: (1, 2), 2: (2,), 3: ()}])
async def test_no_total_is_given_when_a_shard_changed_its_leader(
    monkeypatch: pytest.MonkeyPatch, counted: dict[int, tuple[int, ...]]
) -> None:
    with pytest.raises(Unavailable, match="leader"):
        await count(monkeypatch, counted)
