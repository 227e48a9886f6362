"""Block lists: filled while a large object or part arrives, leased until something holds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dwd.base.blocks import StoredBlock
from dwd.base.errors import Conflict, InvalidArgument, NotFound
from dwd.base.ids import ID_BITS
from dwd.base.limits import BLOCKS_PER_ROW_MAX
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard import blocks
from dwd.meta.core.shard.commands import DropStaged, StageBlocks
from dwd.meta.core.shard.drain import PART, give_up_list
from dwd.meta.core.shard.state import Shard
from dwd.meta.core.tx import At


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A leased list as it stands; `new` when its row is yet to be written."""

    list: int
    bucket: str
    key: bytes
    blocks: int
    length: int
    """Bytes of the object."""
    new: bool = False


def check_id(target: int) -> None:
    if not 0 < target < 1 << ID_BITS:
        raise InvalidArgument("meta.list_id", "a list id is a positive number of 63 bits")


def find_leased(shard: Shard, target: int, bucket: str, key: bytes) -> Staged:
    """Raises NotFound meta.no_such_list: expired, taken, or somebody else's."""
    row = shard.tx.row("SELECT bucket, key, held, blocks, length FROM lists WHERE list = ?", (target,))
    if row is None or row[2] != 0 or (row[0], row[1]) != (bucket, key):
        raise NotFound("meta.no_such_list", "the staged blocks are not there any more; send the object anew")
    return Staged(list=target, bucket=bucket, key=key, blocks=row[3], length=row[4])


def find_or_new(shard: Shard, target: int, bucket: str, key: bytes) -> Staged:
    """A leased list, or one to be begun. Raises NotFound as `find_leased` if the id is taken otherwise."""
    check_id(target)
    if shard.tx.row("SELECT 1 FROM lists WHERE list = ?", (target,)) is None:
        return Staged(list=target, bucket=bucket, key=key, blocks=0, length=0, new=True)
    return find_leased(shard, target, bucket, key)


def append(shard: Shard, staged: Staged, more: Sequence[StoredBlock], at: At, *, hold: bool, salt: bytes = b"") -> None:
    """Add blocks that passed `check_new`, and end the lease when `hold`."""
    length = staged.length + sum(b.plain_length for b in more)
    shard.tx.run(
        "INSERT OR REPLACE INTO lists VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (staged.list, staged.bucket, staged.key, int(hold), at.stamp, staged.blocks + len(more), length, salt),
    )
    if more:
        blocks.add(shard, more, staged.bucket, staged.key)
        shard.tx.run(
            "INSERT INTO list_rows VALUES (?, ?, ?, ?)",
            (staged.list, staged.blocks, staged.length, blocks.join_ids(more)),
        )


def make_manifest(shard: Shard, parts: Iterable[tuple[int, int, int]]) -> int:
    """A manifest of (number, list, size) in order, with one reference; its id is its first list's."""
    encoded = b"".join(PART.pack(*part) for part in parts)
    _, manifest, _ = PART.unpack_from(encoded)
    shard.tx.run("INSERT INTO manifests VALUES (?, 1, ?)", (manifest, encoded))
    return int(manifest)


def stage_blocks(shard: Shard, command: StageBlocks, at: At) -> Receipt:
    key = command.key.encode()
    shard.admit(command.bucket, key, command.bucket_epoch)
    if not 0 < len(command.blocks) <= BLOCKS_PER_ROW_MAX:
        raise InvalidArgument("meta.blocks_count", f"1 to {BLOCKS_PER_ROW_MAX} blocks are staged at a time")
    if command.position == 0:
        staged = find_or_new(shard, command.staged, command.bucket, key)
    else:
        staged = find_leased(shard, command.staged, command.bucket, key)
    if staged.blocks != command.position:
        raise Conflict("meta.stage_position", f"{staged.blocks} blocks are staged, not {command.position}")
    blocks.check_new(shard, command.blocks, at)
    append(shard, staged, command.blocks, at, hold=False)
    return Receipt(index=at.index, stamp=at.stamp, count=staged.blocks + len(command.blocks))


def drop_staged(shard: Shard, command: DropStaged, at: At) -> Receipt:
    row = shard.tx.row("SELECT bucket, key, held FROM lists WHERE list = ?", (command.staged,))
    mine = row is not None and row == (command.bucket, command.key.encode(), 0)
    if mine:
        give_up_list(shard, command.staged)
    return Receipt(index=at.index, stamp=at.stamp, existed=mine)
