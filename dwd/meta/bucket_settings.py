"""Changing what objects depend on: in control first, under a new epoch, then at every shard that may hold keys of the
bucket. From then on no shard takes a command of somebody who saw the bucket before (metadata.md).

Repeatable: whoever finds it changed already tells the shards again.
"""

from __future__ import annotations

from dwd.base.errors import Unavailable
from dwd.meta.core.control.commands import SetBucketAtRest
from dwd.meta.core.control.rows import AtRest
from dwd.meta.core.shard.commands import UnsealBucket
from dwd.meta.deletion import Steps


async def set_at_rest(steps: Steps, name: str, at_rest: AtRest, *, deadline: float) -> None:
    """Raises NotFound; Conflict meta.bucket_changed, meta.bucket_stale: somebody else changes it at the same time."""
    if not steps.holders(name):
        raise Unavailable("meta.no_shards", "this node does not know yet which shards there are")
    changed = await steps.control(SetBucketAtRest(name=name, at_rest=at_rest), deadline=deadline)
    for group in steps.holders(name):
        await steps.shard(group, UnsealBucket(bucket=name, bucket_epoch=changed.count), deadline=deadline)
