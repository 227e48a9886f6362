"""SealBucket, UnsealBucket: the shard's part in deleting a bucket (metadata.md, "Settings that objects depend on")."""

from __future__ import annotations

from dwd.base.errors import Conflict
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import SealBucket, UnsealBucket
from dwd.meta.core.shard.state import Shard
from dwd.meta.core.tx import At


def seal_bucket(shard: Shard, command: SealBucket, at: At) -> Receipt:
    epoch, _ = shard.gate(command.bucket)
    if command.bucket_epoch < epoch:
        raise Conflict("meta.bucket_stale", f"bucket {command.bucket} changed meanwhile", epoch=epoch)
    shard.flush()
    shard.set_gate(command.bucket, command.bucket_epoch, sealed=True)
    row = shard.tx.row("SELECT objects, uploads FROM buckets WHERE bucket = ?", (command.bucket,))
    objects, uploads = (0, 0) if row is None else row
    return Receipt(index=at.index, stamp=at.stamp, count=objects, size=uploads)


def unseal_bucket(shard: Shard, command: UnsealBucket, at: At) -> Receipt:
    epoch, _ = shard.gate(command.bucket)
    if command.bucket_epoch < epoch:
        raise Conflict("meta.bucket_stale", f"bucket {command.bucket} changed meanwhile", epoch=epoch)
    shard.set_gate(command.bucket, command.bucket_epoch, sealed=False)
    return Receipt(index=at.index, stamp=at.stamp)
