"""Block rows: taken in with the object that names them, shared by copies, stored anew under another profile, handed to
the collector with the last name.

Invariants:
* a block id is in `blocks` or in `gc` or in neither, never in both, and never comes back;
* a block older than half the orphan grace cannot be named for the first time: the orphan collector may already
  have taken its fragments (blocks.md). Blocks leased by a list are rows already;
* all who name a block are objects and lists of one bucket: the one beside its fragments;
* a block stored anew has a new id, so fragments of two profiles never share one. Objects and lists are not rewritten:
  they go on naming the first id, and `renamed` says which block that is now.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dwd.base.blocks import Handoff, StoredBlock, placement_of
from dwd.base.errors import Conflict, Corrupt, InvalidArgument, InvariantViolation, NotFound
from dwd.base.ids import BLOCK_ID_BYTES, BlockId, DeviceId, LayoutEpoch, Stamp, stamp_ms
from dwd.base.limits import BLOCKS_PER_ROW_MAX, ORPHAN_GRACE_SECONDS
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import AckGc, AdvanceBlocks, FenceLayouts, ReplaceBlock, UpdateBlock
from dwd.meta.core.shard.state import Shard, require_one
from dwd.meta.core.tx import At, Reader, Row, Value

ORPHAN_GRACE_MS = ORPHAN_GRACE_SECONDS * 1000
FIRST_NAMED_MS_MAX = ORPHAN_GRACE_MS // 2
PROFILE_CHARACTERS_MAX = 32
FRAGMENTS_MAX = 256

PLACE_COLUMNS = "block, profile, length, crc32c, layout_epoch, handoffs, missing"
COLUMNS = f"{PLACE_COLUMNS}, plain, packing"
OWNED_COLUMNS = f"{COLUMNS}, refs, bucket, key, wanted, name"
"""Of `blocks` alone."""
REFS, BUCKET, KEY, WANTED, NAME = 9, 10, 11, 12, 13
_HANDOFF = struct.Struct(">HQ")
_STAMP = struct.Struct(">Q")
_FIND = f"SELECT {OWNED_COLUMNS} FROM blocks WHERE place = ? AND block = ?"  # noqa: S608 - constant
_INSERT = "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def stored_block(row: Row) -> StoredBlock:
    """From OWNED_COLUMNS."""
    found = given_up(row)
    return found if row[WANTED] is None else replace(found, wanted=row[WANTED])


def given_up(row: Row) -> StoredBlock:
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
    """OWNED_COLUMNS of the block of this very id."""
    return reader.row(_FIND, (placement_of(block), block))


def find_named(reader: Reader, name: BlockId) -> Row | None:
    """OWNED_COLUMNS of the block that objects and lists call `name`."""
    row = find_block(reader, name)
    if row is None:
        renamed = reader.row("SELECT block FROM renamed WHERE name = ?", (name,))
        row = None if renamed is None else find_block(reader, BlockId(renamed[0]))
    return row


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
            or shard.tx.row("SELECT 1 FROM renamed WHERE name = ?", (stored.block,)) is not None
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
    if len(stored.wanted) > PROFILE_CHARACTERS_MAX:
        raise InvalidArgument("meta.block_malformed", "a block's wanted profile is out of bounds")
    if stored.length <= 0 or not 0 <= stored.crc32c < 1 << 32 or stored.layout_epoch < 0:
        raise InvalidArgument("meta.block_malformed", "a block's length, checksum or layout is out of bounds")
    indexes = [h.index for h in stored.handoffs] + list(stored.missing)
    if any(not 0 <= i < FRAGMENTS_MAX for i in indexes) or len(set(stored.missing)) != len(stored.missing):
        raise InvalidArgument("meta.block_malformed", "a block's fragments are out of bounds")


def add(shard: Shard, blocks: Sequence[StoredBlock], bucket: str, key: bytes) -> None:
    """Write rows with one reference. They passed `check_new`."""
    shard.tx.run_many(
        _INSERT,
        [_row(b, 1, bucket, key, None) for b in blocks],
    )
    for b in blocks:
        _count_in(shard, b, bucket)


def share(shard: Shard, name: BlockId) -> None:
    _change_refs(shard, _named(shard, name), 1)


def release(shard: Shard, name: BlockId, at: At) -> None:
    """Drop one reference; the last one sends the block to the collector."""
    row = _named(shard, name)
    if row[REFS] > 1:
        _change_refs(shard, row, -1)
        return
    _collect(shard, row, at)
    if row[NAME] is not None:
        shard.tx.run("DELETE FROM renamed WHERE name = ?", (row[NAME],))


def _named(shard: Shard, name: BlockId) -> Row:
    row = find_named(shard.tx, name)
    if row is None:
        raise InvariantViolation("an object names a block that is not there", block=name.hex())
    return row


def _change_refs(shard: Shard, row: Row, change: int) -> None:
    shard.tx.run(
        "UPDATE blocks SET refs = refs + ? WHERE place = ? AND block = ?",
        (change, placement_of(BlockId(row[0])), row[0]),
    )
    require_one(shard.tx.changed(), "counting a reference")


def _collect(shard: Shard, row: Row, at: At) -> None:
    """From `blocks` to `gc`."""
    shard.tx.run("DELETE FROM blocks WHERE place = ? AND block = ?", (placement_of(BlockId(row[0])), row[0]))
    shard.tx.run("INSERT INTO gc VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (row[0], at.stamp, *row[1:7]))
    shard.use(row[BUCKET], packed=-(row[7] or row[2]), stored=-row[2])
    shard.count("blocks", -1)
    shard.count("gc", 1)
    if stored_block(row).not_as_wanted:
        shard.count("degraded", -1)


def _count_in(shard: Shard, stored: StoredBlock, bucket: str) -> None:
    shard.use_layout(stored.layout_epoch, 1)
    shard.use(bucket, packed=stored.plain_length, stored=stored.length)
    shard.count("blocks", 1)
    if stored.not_as_wanted:
        shard.count("degraded", 1)


def _row(stored: StoredBlock, refs: int, bucket: str, key: bytes, name: bytes | None) -> tuple[Value, ...]:
    return (
        placement_of(stored.block),
        stored.block,
        stored.profile,
        stored.length,
        stored.crc32c,
        stored.layout_epoch,
        encode_handoffs(stored.handoffs) if stored.handoffs else None,
        bytes(stored.missing) if stored.missing else None,
        refs,
        bucket,
        key,
        stored.plain,
        stored.packing,
        stored.wanted or None,
        name,
    )


def replace_block(shard: Shard, command: ReplaceBlock, at: At) -> Receipt:
    old, new = command.old, command.new
    if _identity(old)[1:] != _identity(new)[1:] or old.block == new.block:
        raise InvalidArgument("meta.block_identity", "a block is replaced by the same bytes under another id")
    row = find_block(shard.tx, old.block)
    if row is None:
        there = find_block(shard.tx, new.block)
        if there is not None and stored_block(there) == new:
            return Receipt(index=at.index, stamp=at.stamp, existed=True)
        raise NotFound("meta.no_such_block", f"block {old.block.hex()} is not there any more")
    if stored_block(row) != old:
        raise Conflict("meta.block_changed", f"block {old.block.hex()} changed meanwhile")
    check_new(shard, (new,), at)
    name = bytes(old.block) if row[NAME] is None else row[NAME]
    _collect(shard, row, at)
    shard.tx.run(_INSERT, _row(new, row[REFS], row[BUCKET], row[KEY], name))
    _count_in(shard, new, str(row[BUCKET]))
    shard.tx.run("INSERT OR REPLACE INTO renamed VALUES (?, ?)", (name, new.block))
    return Receipt(index=at.index, stamp=at.stamp)


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
            "UPDATE blocks SET profile = ?, layout_epoch = ?, handoffs = ?, missing = ?, wanted = ?"
            " WHERE place = ? AND block = ?",
            (
                new.profile,
                new.layout_epoch,
                encode_handoffs(new.handoffs),
                bytes(new.missing) or None,
                new.wanted or None,
                placement_of(new.block),
                new.block,
            ),
        )
        shard.use_layout(old.layout_epoch, -1)
        shard.use_layout(new.layout_epoch, 1)
        shard.count("degraded", int(new.not_as_wanted) - int(old.not_as_wanted))
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
