"""Deleting a bucket: begin in control, seal every shard that may hold its keys, verify emptiness, finish;
or undo all of it.

Every step can be repeated, so a deletion that broke off half-way is completed, or undone, by the next one. Each
deletion has its own epoch, so steps of an older one that come late change nothing. A bucket that plainly holds objects
is refused before anything is closed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol, TypeVar

from dwd.base.errors import Conflict, NotFound, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId
from dwd.meta.core.control.commands import (
    BeginDeleteBucket,
    CancelDeleteBucket,
    ControlCommand,
    FinishDeleteBucket,
)
from dwd.meta.core.control.queries import GetBucket
from dwd.meta.core.control.rows import BucketState
from dwd.meta.core.query import Query
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import AbortUpload, SealBucket, ShardCommand, UnsealBucket
from dwd.meta.core.shard.queries import GetUsage, ListUploads

A = TypeVar("A")


class Steps(Protocol):
    """What deletion asks of `MetaClient`."""

    async def control(self, command: ControlCommand, *, deadline: float) -> Receipt: ...

    async def shard(self, group: GroupId, command: ShardCommand, *, deadline: float) -> Receipt: ...

    async def read_group(self, group: GroupId, query: Query[A], *, deadline: float) -> A: ...

    def holders(self, bucket: str) -> tuple[GroupId, ...]: ...


async def delete_bucket(steps: Steps, name: str, *, deadline: float, begun_under: int = 0) -> None:
    """`begun_under`: only go on with the deletion of that epoch. Raises NotFound, Conflict objects.bucket_not_empty,
    Unavailable while this node knows of no shard: a bucket that is looked for nowhere would be found empty.
    """
    if not steps.holders(name):
        raise Unavailable("meta.no_shards", "this node does not know yet which shards there are")
    if not begun_under:
        await _refuse_early(steps, name, deadline)
    begun = await steps.control(BeginDeleteBucket(name=name, epoch=begun_under), deadline=deadline)
    epoch = begun.count
    objects = 0
    for group in steps.holders(name):
        sealed = await steps.shard(group, SealBucket(bucket=name, bucket_epoch=epoch), deadline=deadline)
        objects += sealed.count
    if objects:
        await _undo(steps, name, epoch, deadline)
        raise _not_empty(name, objects)
    for group in steps.holders(name):
        await _abort_uploads(steps, group, name, deadline)
    await steps.control(FinishDeleteBucket(name=name, epoch=epoch), deadline=deadline)


def _not_empty(name: str, objects: int) -> Conflict:
    return Conflict(
        "objects.bucket_not_empty",
        f"bucket {name} is not empty: it holds {objects} objects",
        hint="delete its objects first",
        objects=objects,
    )


async def _refuse_early(steps: Steps, name: str, deadline: float) -> None:
    """While a bucket is being deleted nobody can use it: not worth it for one that is in use. The seal decides."""
    row = (await steps.read_group(CONTROL_GROUP, GetBucket(name=name), deadline=deadline)).bucket
    if row is None or row.state is not BucketState.ACTIVE:
        return
    objects = 0
    for group in steps.holders(name):
        usage = await steps.read_group(group, GetUsage(bucket=name), deadline=deadline)
        objects += sum(found.objects for found in usage.buckets)
    if objects:
        raise _not_empty(name, objects)


async def _undo(steps: Steps, name: str, epoch: int, deadline: float) -> None:
    """A new epoch first: shards then accept writes of those who saw the bucket active again, and of nobody older. If
    somebody else has undone it, or begun anew, the rest is theirs.
    """
    with suppress(Conflict, NotFound):
        cancelled = await steps.control(CancelDeleteBucket(name=name, epoch=epoch), deadline=deadline)
        for group in steps.holders(name):
            await steps.shard(group, UnsealBucket(bucket=name, bucket_epoch=cancelled.count), deadline=deadline)


async def _abort_uploads(steps: Steps, group: GroupId, name: str, deadline: float) -> None:
    while True:
        page = await steps.read_group(group, ListUploads(bucket=name), deadline=deadline)
        for row in page.uploads:
            command = AbortUpload(bucket=row.bucket, key=row.key, upload=row.upload)
            await steps.shard(group, command, deadline=deadline)
        if not page.truncated:
            return
