"""Every command of a shard to the function that carries it out; the most frequent first."""

from __future__ import annotations

from typing import assert_never

from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard import blocks, commands, drain, fences, gates, lists, put, uploads
from dwd.meta.core.shard.state import Shard
from dwd.meta.core.tx import At


def apply(shard: Shard, command: commands.ShardCommand, at: At) -> Receipt:  # noqa: C901, PLR0911, PLR0912 - a table
    """Raises the DwError the command earned, before its first write."""
    match command:
        case commands.PutObject():
            return put.put_object(shard, command, at)
        case commands.DeleteObject():
            return put.delete_object(shard, command, at)
        case commands.PutPart():
            return uploads.put_part(shard, command, at)
        case commands.StageBlocks():
            return lists.stage_blocks(shard, command, at)
        case commands.AckGc():
            return blocks.ack_gc(shard, command, at)
        case commands.UpdateBlock():
            return blocks.update_block(shard, command, at)
        case commands.AdvanceBlocks():
            return blocks.advance_blocks(shard, command, at)
        case commands.FenceLayouts():
            return blocks.fence_layouts(shard, command, at)
        case commands.ReplaceBlock():
            return blocks.replace_block(shard, command, at)
        case commands.Drain():
            return drain.drain(shard, command, at)
        case commands.CopyInsideShard():
            return put.copy_inside_shard(shard, command, at)
        case commands.CreateUpload():
            return uploads.create_upload(shard, command, at)
        case commands.CompleteUpload():
            return uploads.complete_upload(shard, command, at)
        case commands.AbortUpload():
            return uploads.abort_upload(shard, command, at)
        case commands.DropStaged():
            return lists.drop_staged(shard, command, at)
        case commands.ExpireAbandoned():
            return drain.expire_abandoned(shard, command, at)
        case commands.TrimTombstones():
            return drain.trim_tombstones(shard, command, at)
        case commands.SealBucket():
            return gates.seal_bucket(shard, command, at)
        case commands.UnsealBucket():
            return gates.unseal_bucket(shard, command, at)
        case commands.HoldFence():
            return fences.hold_fence(at)
        case commands.SweepFences():
            return fences.sweep_fences(shard, command, at)
        case _:
            assert_never(command)
