"""Layouts in control: staged, applied by compare-and-swap, retired; and the fence that shards put up before that."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from dwd.base.errors import Conflict, DwError
from dwd.base.ids import LayoutEpoch
from dwd.meta.core.control import layouts
from dwd.meta.core.control.commands import ApplyLayout, DropStagedLayout, RetireLayouts, StageLayout
from dwd.meta.core.control.queries import GetTopology, Topology
from dwd.meta.core.shard.commands import AckGc, DeleteObject, FenceLayouts, PutObject, UpdateBlock
from dwd.meta.core.shard.queries import GetCounts
from tests.twins.meta_group import Group, block

HASH = hashlib.sha256(b"staged").digest()


def stage(epoch: int = 1, layout: bytes = b"staged") -> StageLayout:
    return StageLayout(epoch=LayoutEpoch(epoch), layout=layout)


def apply(epoch: int = 1, layout: bytes = b"l", staged_hash: bytes = b"") -> ApplyLayout:
    return ApplyLayout(epoch=LayoutEpoch(epoch), layout=layout, staged_hash=staged_hash)


def epochs(topology: Topology) -> list[tuple[int, bool]]:
    return [(row.epoch, row.retired) for row in topology.layouts]


def test_a_staged_layout_is_applied_when_it_is_the_one_that_was_shown(control: Group) -> None:
    control.send(stage())
    staged = control.ask(GetTopology()).staged_layout
    assert staged is not None
    assert (staged.epoch, staged.layout) == (1, b"staged")
    control.send(apply(layout=b"", staged_hash=HASH))
    topology = control.ask(GetTopology())
    assert (topology.staged_layout, [row.layout for row in topology.layouts]) == (None, [b"staged"])


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        ([], apply(layout=b"", staged_hash=HASH), "meta.layout_staged"),
        ([stage(layout=b"another")], apply(layout=b"", staged_hash=HASH), "meta.layout_staged"),
        ([stage(), apply()], apply(2, b"", HASH), "meta.layout_staged"),
        ([stage()], apply(2, b"", HASH), "meta.layout_epoch"),
        ([stage()], apply(layout=b"both", staged_hash=HASH), "meta.layout_twice"),
        ([], stage(2), "meta.layout_epoch"),
        ([], stage(layout=b""), "meta.layout_length"),
        ([], apply(layout=b"x" * (layouts.LAYOUT_BYTES_MAX + 1)), "meta.layout_length"),
    ],
)
def test_a_layout_is_refused_when_it_is_not_what_was_shown(
    control: Group, before: list[Any], command: Any, code: str
) -> None:
    for earlier in before:
        control.send(earlier)
    topology = control.ask(GetTopology())
    with pytest.raises(DwError) as refused:
        control.send(command)
    assert refused.value.code == code
    assert control.ask(GetTopology()) == topology


def test_what_is_staged_is_dropped_once(control: Group) -> None:
    control.send(stage())
    assert control.send(DropStagedLayout()).existed
    assert not control.send(DropStagedLayout()).existed
    assert control.ask(GetTopology()).staged_layout is None


def test_one_retired_layout_stays_to_go_back_to_and_the_newest_never_retires(control: Group) -> None:
    for epoch in (1, 2, 3, 4):
        control.send(apply(epoch))
    assert control.send(RetireLayouts(below=LayoutEpoch(2))).count == 1
    assert epochs(control.ask(GetTopology())) == [(1, True), (2, False), (3, False), (4, False)]
    assert control.send(RetireLayouts(below=LayoutEpoch(9))).count == 2
    assert epochs(control.ask(GetTopology())) == [(3, True), (4, False)]
    assert control.send(RetireLayouts(below=LayoutEpoch(9))).count == 0


def test_a_layout_waits_when_data_lies_by_too_many(control: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "LAYOUTS_MAX", 2)
    control.send(apply(1))
    control.send(apply(2))
    with pytest.raises(DwError, match="let rebalancing finish"):
        control.send(apply(3))
    control.send(RetireLayouts(below=LayoutEpoch(2)))
    control.send(apply(3))
    monkeypatch.setattr(layouts, "LAYOUTS_BYTES_MAX", 4)
    with pytest.raises(DwError, match="let rebalancing finish"):
        control.send(apply(4, b"12345"))


def put(key: str, number: int, epoch: int) -> PutObject:
    stored = replace(block(number), layout_epoch=LayoutEpoch(epoch))
    return PutObject(bucket="b", key=key, bucket_epoch=1, size=stored.length, etag="e", blocks=(stored,), inline=None)


def used(shard: Group) -> list[tuple[int, int]]:
    return [(use.epoch, use.blocks) for use in shard.ask(GetCounts()).epochs]


def test_blocks_of_a_fenced_layout_are_refused_and_those_that_are_there_stay(shard: Group) -> None:
    shard.send(put("old", 1, 1))
    shard.send(put("older", 2, 1))
    shard.send(FenceLayouts(below=LayoutEpoch(3)))
    shard.send(FenceLayouts(below=LayoutEpoch(2)))
    with pytest.raises(Conflict) as refused:
        shard.send(put("late", 3, 2))
    assert refused.value.code == "meta.layout_fenced"
    shard.send(put("new", 3, 3))
    one = replace(block(1), layout_epoch=LayoutEpoch(1))
    shard.send(UpdateBlock(old=one, new=replace(one, missing=(1,))))
    hurt = replace(one, missing=(1,))
    with pytest.raises(Conflict, match="retiring"):
        shard.send(UpdateBlock(old=hurt, new=replace(one, layout_epoch=LayoutEpoch(2))))
    shard.send(UpdateBlock(old=hurt, new=replace(one, layout_epoch=LayoutEpoch(3))))
    assert used(shard) == [(1, 1), (3, 2)]


def test_a_layout_is_in_use_until_the_last_of_its_blocks_is_collected(shard: Group) -> None:
    shard.send(put("k", 1, 1))
    shard.send(DeleteObject(bucket="b", key="k", bucket_epoch=1))
    assert used(shard) == [(1, 1)], "the collector asks the layout where the fragments are"
    assert shard.ask(GetCounts()).blocks == 0
    gone = AckGc(blocks=(block(1).block,))
    assert (shard.send(gone).count, shard.send(gone).count) == (1, 0)
    assert used(shard) == []
