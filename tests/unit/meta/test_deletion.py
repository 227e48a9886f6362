"""Deleting a bucket over a real control group and two real shards, step by step, with somebody always in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dwd.base.errors import Busy, Conflict, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId
from dwd.meta.core.control.commands import BeginDeleteBucket, CreateBucket, CreateUser, FinishDeleteBucket
from dwd.meta.core.control.queries import GetBucket
from dwd.meta.core.control.rows import BucketRow, BucketState
from dwd.meta.core.shard.commands import DeleteObject, PutObject, SealBucket, UnsealBucket
from dwd.meta.deletion import delete_bucket
from tests.twins.meta_group import Group


class Steps:
    """`meanwhile` holds what happens right before a command of a kind is carried out; kinds in `held` wait for
    `release`.
    """

    def __init__(self, root: Path) -> None:
        self.groups = {
            CONTROL_GROUP: Group(root / "control", CONTROL_GROUP),
            GroupId(1): Group(root / "one", GroupId(1)),
            GroupId(2): Group(root / "two", GroupId(2)),
        }
        self.meanwhile: dict[type, Callable[[], Any]] = {}
        self.held: dict[type, list[tuple[GroupId, Any]]] = {}
        self.begun = 0
        self.known = (GroupId(1), GroupId(2))

    async def control(self, command: Any, *, deadline: float) -> Any:
        return self.carry_out(CONTROL_GROUP, command)

    async def shard(self, group: GroupId, command: Any, *, deadline: float) -> Any:
        return self.carry_out(group, command)

    async def read_group(self, group: GroupId, query: Any, *, deadline: float) -> Any:
        return self.groups[group].ask(query)

    def holders(self, bucket: str) -> tuple[GroupId, ...]:
        return self.known

    def carry_out(self, group: GroupId, command: Any) -> Any:
        first = self.meanwhile.pop(type(command), None)
        if first is not None:
            first()
        if type(command) in self.held:
            self.held[type(command)].append((group, command))
            return None
        self.begun += isinstance(command, BeginDeleteBucket)
        return self.groups[group].send(command)

    def row(self) -> BucketRow | None:
        return self.groups[CONTROL_GROUP].ask(GetBucket(name="b")).bucket

    def epoch(self) -> int:
        row = self.row()
        assert row is not None
        return row.epoch


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[Steps]:
    made = Steps(tmp_path)
    made.groups[CONTROL_GROUP].send(CreateUser(name="u"))
    made.groups[CONTROL_GROUP].send(CreateBucket(name="b", owner="u", profile="none"))
    yield made
    for group in made.groups.values():
        group.close()


def put(epoch: int) -> PutObject:
    return PutObject(bucket="b", key="k", bucket_epoch=epoch, size=1, etag="e", inline=b"x")


async def test_bucket_in_use_is_refused_before_anything_is_closed(steps: Steps) -> None:
    steps.groups[GroupId(2)].send(put(steps.epoch()))
    with pytest.raises(Conflict):
        await delete_bucket(steps, "b", deadline=0)
    assert steps.begun == 0


async def test_bucket_is_active_again_when_an_object_came_while_it_was_deleted(steps: Steps) -> None:
    epoch = steps.epoch()
    steps.meanwhile[BeginDeleteBucket] = lambda: steps.groups[GroupId(2)].send(put(epoch))
    with pytest.raises(Conflict):
        await delete_bucket(steps, "b", deadline=0)
    row = steps.row()
    assert row is not None
    assert row.state is BucketState.ACTIVE
    assert steps.groups[GroupId(1)].send(put(row.epoch)).count == 0


async def test_write_is_refused_when_a_cancelled_deletion_unseals_late(steps: Steps) -> None:
    """Else it would be acknowledged and go with the bucket."""
    shard = steps.groups[GroupId(1)]
    first = steps.epoch()
    steps.meanwhile[BeginDeleteBucket] = lambda: shard.send(put(first))
    steps.held[UnsealBucket] = []
    with pytest.raises(Conflict):
        await delete_bucket(steps, "b", deadline=0)
    late = steps.held.pop(UnsealBucket)
    assert [group for group, _ in late] == [1, 2]
    seen = steps.epoch()
    shard.send(DeleteObject(bucket="b", key="k", bucket_epoch=seen))

    def before_the_end() -> None:
        for group, command in late:
            with pytest.raises(Conflict):
                steps.groups[group].send(command)
        for epoch in (first, seen):
            with pytest.raises((Busy, Conflict)):
                shard.send(put(epoch))

    steps.meanwhile[FinishDeleteBucket] = before_the_end
    await delete_bucket(steps, "b", deadline=0)
    assert steps.row() is None


async def test_new_bucket_stays_when_an_old_deletion_is_gone_on_with(steps: Steps) -> None:
    control = steps.groups[CONTROL_GROUP]
    begun = control.send(BeginDeleteBucket(name="b")).count
    await delete_bucket(steps, "b", deadline=0, begun_under=begun)
    assert steps.row() is None
    control.send(CreateBucket(name="b", owner="u", profile="none"))
    with pytest.raises(Conflict):
        await delete_bucket(steps, "b", deadline=0, begun_under=begun)
    with pytest.raises(Conflict):
        steps.groups[GroupId(1)].send(SealBucket(bucket="b", bucket_epoch=begun - 1))
    row = steps.row()
    assert row is not None
    assert row.state is BucketState.ACTIVE
    steps.groups[GroupId(1)].send(put(row.epoch))


async def test_deletion_is_refused_when_no_shard_is_known_yet(steps: Steps) -> None:
    """A node that has just started may have an old copy of control: nothing found nowhere is no proof."""
    steps.groups[GroupId(2)].send(put(steps.epoch()))
    steps.known = ()
    with pytest.raises(Unavailable, match="which shards"):
        await delete_bucket(steps, "b", deadline=0.0)
    assert steps.row() is not None
