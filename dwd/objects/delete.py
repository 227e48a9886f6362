"""Delete an object."""

from __future__ import annotations

from dwd.meta.core.shard.commands import DeleteObject
from dwd.objects.context import Context, bucket_for, propose
from dwd.objects.ports import Caller, Precondition
from dwd.objects.put import shard_precondition


async def delete(
    context: Context, caller: Caller, bucket: str, key: str, *, precondition: Precondition, deadline: float
) -> bool:
    """True if there was one. Raises Conflict objects.precondition_failed."""
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    condition = shard_precondition(precondition)
    receipt = await propose(
        context,
        row,
        lambda now: DeleteObject(bucket=bucket, key=key, bucket_epoch=now.epoch, precondition=condition),
        deadline=deadline,
    )
    return receipt.existed
