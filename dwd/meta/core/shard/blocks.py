"""Block rows: taken in with the object that names them, shared by copies, handed to the collector with the last name.

Invariants:
* a block id is in `blocks` or in `gc` or in neither, never in both, and never comes back;
* a block older than half the orphan grace cannot be named for the first time: the orphan collector may already
  have taken its fragments (blocks.md). Blocks leased by a list are rows already.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from dwd.base.blocks import Handoff, StoredBlock, placement_of
from dwd.base.errors import Conflict, Corrupt, InvalidArgument, InvariantViolation, NotFound
from dwd.base.ids import BLOCK_ID_BYTES, BlockId, DeviceId, LayoutEpoch, Stamp, stamp_ms
from dwd.base.limits import BLOCKS_PER_ROW_MAX, ORPHAN_GRACE_SECONDS
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import AckGc, AdvanceBlocks, FenceLayouts, UpdateBlock
from dwd.meta.core.shard.state import Shard, require_one
from dwd.meta.core.tx import At, Reader, Row

ORPHAN_GRACE_MS = ORPHAN_GRACE_SECONDS * 1000
FIRST_NAMED_MS_MAX = ORPHAN_GRACE_MS // 2
PROFILE_CHARACTERS_MAX = 32
FRAGMENTS_MAX = 256

PLACE_COLUMNS = "block, profile, length, crc32c, layout_epoch, handoffs, missing"
COLUMNS = f"{PLACE_COLUMNS}, plain, packing"
_HANDOFF = struct.Struct(">HQ")
_STAMP = struct.Struct(">Q")


def stored_block(row: Row) -> StoredBlock:
    """From COLUMNS."""
    block, profile, length, crc32c, epoch, handoffs, missing, plain, packing = row[:9]
    return StoredBlock(
        block=BlockId(block),
        profile=profile,
        length=length,
        crc32c=crc32c,
        layout_epoch=LayoutEpoch(epoch),
        handoffs=() if handoffs is None else decode_handoffs(handoffs),
        missing=() if missing is None else tuple(missing),
        plain=plain,
        packing=packing,
    )


def encode_handoffs(handoffs: Sequence[Handoff]) -> bytes | None:
    return b"".join(_HANDOFF.pack(h.index, h.device) for h in handoffs) or None


def decode_handoffs(encoded: bytes) -> tuple[Handoff, ...]:
    return tuple(Handoff(index=index, device=DeviceId(device)) for index, device in _HANDOFF.iter_unpack(encoded))


def split_ids(encoded: bytes) -> Iterator[BlockId]:
    """Ids stored one after another. Raises Corrupt."""
    if len(encoded) % BLOCK_ID_BYTES:
        raise Corrupt("meta.block_ids_malformed", "a list of block ids is cut short")
    for at in range(0, len(encoded), BLOCK_ID_BYTES):
        yield BlockId(encoded[at : at + BLOCK_ID_BYTES])


def join_ids(blocks: Iterable[StoredBlock]) -> bytes:
    return b"".join(b.block for b in blocks)


def find_block(reader: Reader, block: BlockId) -> Row | None:
    """COLUMNS, then refs, bucket, key."""
    return reader.row(
        f"SELECT {COLUMNS}, refs, bucket, key FROM blocks WHERE place = ? AND block = ?",  # noqa: S608 - constant
        (placement_of(block), block),
    )


def check_new(shard: Shard, blocks: Sequence[StoredBlock], at: At) -> None:
    """May these blocks be named for the first time? Raises InvalidArgument, Conflict."""
    if len(blocks) > 1 and len({b.block for b in blocks}) != len(blocks):
        raise InvalidArgument("meta.block_twice", "a block is named twice")
    oldest = stamp_ms(at.stamp) - FIRST_NAMED_MS_MAX
    for stored in blocks:
        check_shape(stored)
        _check_fence(shard, stored.layout_epoch)
        (stamp,) = _STAMP.unpack_from(stored.block)
        if stamp_ms(Stamp(stamp)) < oldest:
            raise Conflict("meta.block_too_old", "a block waited too long for its object; store it anew")
        if (
            find_block(shard.tx, stored.block) is not None
            or shard.tx.row("SELECT 1 FROM gc WHERE block = ?", (stored.block,)) is not None
        ):
            raise Conflict("meta.block_exists", f"block {stored.block.hex()} is already known")


def _check_fence(shard: Shard, epoch: LayoutEpoch) -> None:
    """A layout that retires must not be named again: nobody could say where the block is."""
    fence = shard.layout_fence()
    if epoch < fence:
        raise Conflict("meta.layout_fenced", f"layout {epoch} is retiring; store it anew", fence=fence)


def check_shape(stored: StoredBlock) -> None:
    if len(stored.block) != BLOCK_ID_BYTES or not 0 < len(stored.profile) <= PROFILE_CHARACTERS_MAX:
        raise InvalidArgument("meta.block_malformed", "a block needs an id of 16 bytes and a profile")
    if stored.plain < 0 or stored.packing < 0 or (stored.packing == 0) != (stored.plain == 0):
        raise InvalidArgument("meta.block_malformed", "a packed block, and no other, says how many bytes it holds")
    if stored.length <= 0 or not 0 <= stored.crc32c < 1 << 32 or stored.layout_epoch < 0:
        raise InvalidArgument("meta.block_malformed", "a block's length, checksum or layout is out of bounds")
    indexes = [h.index for h in stored.handoffs] + list(stored.missing)
    if any(not 0 <= i < FRAGMENTS_MAX for i in indexes) or len(set(stored.missing)) != len(stored.missing):
        raise InvalidArgument("meta.block_malformed", "a block's fragments are out of bounds")


def add(shard: Shard, blocks: Sequence[StoredBlock], bucket: str, key: bytes) -> None:
    """Write rows with one reference. They passed `check_new`."""
    shard.tx.run_many(
        "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?)",
        [
            (
                placement_of(b.block),
                b.block,
                b.profile,
                b.length,
                b.crc32c,
                b.layout_epoch,
                encode_handoffs(b.handoffs) if b.handoffs else None,
                bytes(b.missing) if b.missing else None,
                bucket,
                key,
                b.plain,
                b.packing,
            )
            for b in blocks
        ],
    )
    for b in blocks:
        shard.use_layout(b.layout_epoch, 1)
        shard.use(bucket, packed=b.plain_length, stored=b.length)
        shard.count("blocks", 1)
        if b.needs_repair:
            shard.count("degraded", 1)


def share(shard: Shard, block: BlockId) -> None:
    shard.tx.run("UPDATE blocks SET refs = refs + 1 WHERE place = ? AND block = ?", (placement_of(block), block))
    require_one(shard.tx.changed(), "sharing a block")


def release(shard: Shard, block: BlockId, at: At) -> None:
    """Drop one reference; the last one sends the block to the collector."""
    row = find_block(shard.tx, block)
    if row is None:
        raise InvariantViolation("an object names a block that is not there", block=block.hex())
    if row[9] > 1:
        shard.tx.run("UPDATE blocks SET refs = refs - 1 WHERE place = ? AND block = ?", (placement_of(block), block))
        return
    shard.tx.run("DELETE FROM blocks WHERE place = ? AND block = ?", (placement_of(block), block))
    shard.tx.run("INSERT INTO gc VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (row[0], at.stamp, *row[1:7]))
    shard.use(row[10], packed=-(row[7] or row[2]), stored=-row[2])
    shard.count("blocks", -1)
    shard.count("gc", 1)
    if row[5] is not None or row[6] is not None:
        shard.count("degraded", -1)


def update_block(shard: Shard, command: UpdateBlock, at: At) -> Receipt:
    old, new = command.old, command.new
    check_shape(new)
    _check_made(command.made, at)
    if _identity(old) != _identity(new):
        raise InvalidArgument("meta.block_identity", "repair changes where a block is, never what it is")
    row = find_block(shard.tx, old.block)
    if row is None:
        raise NotFound("meta.no_such_block", f"block {old.block.hex()} is not there any more")
    present = stored_block(row)
    if present != new:
        if present != old:
            raise Conflict("meta.block_changed", f"block {old.block.hex()} changed meanwhile")
        if new.layout_epoch != old.layout_epoch:
            _check_fence(shard, new.layout_epoch)
        shard.tx.run(
            "UPDATE blocks SET profile = ?, layout_epoch = ?, handoffs = ?, missing = ? WHERE place = ? AND block = ?",
            (
                new.profile,
                new.layout_epoch,
                encode_handoffs(new.handoffs),
                bytes(new.missing) or None,
                placement_of(new.block),
                new.block,
            ),
        )
        shard.use_layout(old.layout_epoch, -1)
        shard.use_layout(new.layout_epoch, 1)
        shard.count("degraded", int(new.needs_repair) - int(old.needs_repair))
    return Receipt(index=at.index, stamp=at.stamp)


def _identity(stored: StoredBlock) -> tuple[object, ...]:
    return stored.block, stored.length, stored.crc32c, stored.plain, stored.packing


def advance_blocks(shard: Shard, command: AdvanceBlocks, at: At) -> Receipt:
    """Each row by itself: one that changed meanwhile is left as it is."""
    if len(command.blocks) > BLOCKS_PER_ROW_MAX:
        raise InvalidArgument("meta.limit", f"at most {BLOCKS_PER_ROW_MAX} blocks")
    _check_fence(shard, command.layout_epoch)
    advanced = 0
    for old in command.blocks:
        row = find_block(shard.tx, old.block)
        if row is None or stored_block(row) != old or old.needs_repair:
            continue
        shard.tx.run(
            "UPDATE blocks SET layout_epoch = ? WHERE place = ? AND block = ?",
            (command.layout_epoch, placement_of(old.block), old.block),
        )
        shard.use_layout(old.layout_epoch, -1)
        shard.use_layout(command.layout_epoch, 1)
        advanced += 1
    return Receipt(index=at.index, stamp=at.stamp, count=advanced)


def _check_made(made: Stamp, at: At) -> None:
    """Whoever removes strays trusts that copies as old as this are named by now or never."""
    if made and stamp_ms(made) < stamp_ms(at.stamp) - FIRST_NAMED_MS_MAX:
        raise Conflict("meta.repair_too_old", "the fragments were written too long ago; write them anew")


def fence_layouts(shard: Shard, command: FenceLayouts, at: At) -> Receipt:
    shard.fence_layouts(command.below)
    return Receipt(index=at.index, stamp=at.stamp)


def ack_gc(shard: Shard, command: AckGc, at: At) -> Receipt:
    removed = 0
    for block in command.blocks:
        row = shard.tx.row("SELECT layout_epoch FROM gc WHERE block = ?", (block,))
        if row is None:
            continue
        shard.tx.run("DELETE FROM gc WHERE block = ?", (block,))
        shard.use_layout(LayoutEpoch(row[0]), -1)
        removed += 1
    shard.count("gc", -removed)
    return Receipt(index=at.index, stamp=at.stamp, count=removed)
