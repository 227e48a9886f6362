"""Storing a body: cut into blocks, hashed and written with the next block arriving meanwhile.

Invariants: at most WRITES_AHEAD blocks are being written while one is being filled, so a request holds a few blocks
whatever the object's size; a block is taken from the body only when the one before it is being written, so a request
that waits for the node's limit on such writes holds one; a body that fails leaves nothing that is not collected
(blocks named in a staged list come back through metadata, the others are discarded here, and should this node die, by
the devices' orphan sweep).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TypeVar, TypeVarTuple

from dwd.base.blocks import StoredBlock
from dwd.base.errors import Busy, DwError, InvalidArgument, OutcomeUnknown
from dwd.base.limits import OBJECT_BYTES_MAX
from dwd.blocks.ports import Owner
from dwd.meta.core.control.rows import BucketRow
from dwd.meta.core.shard.commands import DropStaged, StageBlocks
from dwd.objects.context import Context, propose
from dwd.objects.core.cutter import Cutter
from dwd.objects.core.packing import Packed, Packer
from dwd.objects.packing_metrics import count_packed
from dwd.objects.ports import Body
from dwd.runtime.files import Buffer

Ts = TypeVarTuple("Ts")
A = TypeVar("A")

WRITES_AHEAD = 2
STAGE_EVERY_BLOCKS = 32
"""Block rows that a command carries at a time; more than that are staged while the upload goes on."""
HASH_INLINE_BYTES_MAX = 64 * 1024
"""Up to here a digest costs less than handing it to another thread."""


@dataclass(slots=True, kw_only=True)
class Stored:
    """What became of a body. `inline` holds the bytes of one that fits its command; else `blocks` are the last rows,
    after those in the list `staged` (0: there is no list).
    """

    size: int = 0
    etag: str = ""
    inline: Buffer | None = None
    staged: int = 0
    staged_blocks: int = 0
    blocks: list[StoredBlock] = field(default_factory=list)


class Upload:
    """One body on its way into blocks."""

    def __init__(
        self,
        context: Context,
        row: BucketRow,
        key: str,
        packer: Callable[[], Packer | None],
        *,
        inline_bytes_max: int,
        deadline: float,
    ) -> None:
        """`packer` is asked once, before the first block."""
        self._context = context
        self._row = row
        self._key = key
        self._packer_for = packer
        self._packer: Packer | None = None
        self._position = 0
        self._inline_bytes_max = inline_bytes_max
        self._deadline = deadline
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._writing: deque[asyncio.Task[StoredBlock]] = deque()
        self.stored = Stored()

    async def run(self, body: Body) -> Stored:
        """Store all of `body`. On any failure what was written is given up before the error goes on."""
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._store(body, tasks)
        except BaseExceptionGroup as group:
            await self.discard()
            raise _first(group) from group
        except BaseException:
            await self.discard()
            raise
        return self.stored

    async def _store(self, body: Body, tasks: asyncio.TaskGroup) -> None:
        cutter = Cutter()
        async with aclosing(body.chunks()) as chunks:
            async for chunk in chunks:
                self.stored.size += len(chunk)
                if self.stored.size > OBJECT_BYTES_MAX:
                    raise InvalidArgument("objects.too_large", "an object has at most 5 TiB", limit=OBJECT_BYTES_MAX)
                for block in cutter.feed(chunk):
                    await self._write(block, tasks)
        rest = cutter.rest()
        if (
            not self._writing
            and not self.stored.blocks
            and not self.stored.staged
            and len(rest) <= self._inline_bytes_max
        ):
            await self._hash(rest)
            self.stored.inline = rest
        elif len(rest):
            await self._write(rest, tasks)
        while self._writing:
            await self._finish_one()
        self.stored.etag = self._md5.hexdigest()

    async def _write(self, block: Buffer, tasks: asyncio.TaskGroup) -> None:
        while len(self._writing) >= WRITES_AHEAD:
            await self._finish_one()
        await self._take_turn()
        if not self._position:
            self._packer = self._packer_for()
        task = tasks.create_task(self._pack_and_write(block, self._position))
        self._position += len(block)
        task.add_done_callback(self._end_turn)
        self._writing.append(task)
        await self._hash(block)

    async def _pack_and_write(self, block: Buffer, position: int) -> StoredBlock:
        packed = Packed(data=block, packing=0)
        if self._packer is not None:
            packed = await self._beside(len(block), self._packer.pack, block, position)
        owner = Owner(bucket=self._row.name, key=self._key)
        stored = await self._context.blocks.write(
            packed.data, policy=self._row.policy, owner=owner, deadline=self._deadline
        )
        if not packed.packing:
            return stored
        count_packed(len(block), len(packed.data))
        return replace(stored, plain=len(block), packing=packed.packing)

    async def _beside(self, size: int, work: Callable[[*Ts], A], *arguments: *Ts) -> A:
        """`work`, on another thread when it is much."""
        if size <= HASH_INLINE_BYTES_MAX:
            return work(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._context.hashing, work, *arguments)

    async def _take_turn(self) -> None:
        """Wait for one of the node's places for blocks being written. Raises Busy."""
        left = self._deadline - self._context.clock.monotonic()
        try:
            async with asyncio.timeout(left):
                await self._context.writing.acquire()
        except TimeoutError as error:
            raise Busy("objects.writes_full", "too many blocks are being written", hint="try again later") from error

    def _end_turn(self, _: asyncio.Task[StoredBlock]) -> None:
        """Of a task's end, however it came: one that is cancelled before its first step runs no `finally`."""
        self._context.writing.release()

    async def _hash(self, block: Buffer) -> None:
        await self._beside(len(block), self._md5.update, block)

    async def _finish_one(self) -> None:
        stored = await self._writing[0]
        del self._writing[0]
        self.stored.blocks.append(stored)
        if len(self.stored.blocks) > STAGE_EVERY_BLOCKS:
            await self._stage(STAGE_EVERY_BLOCKS)

    async def _stage(self, count: int) -> None:
        """Put the first `count` finished blocks into the list, where metadata answers for them: from the moment it is
        asked, unless it certainly did not take them.
        """
        list_id = self.stored.staged = self.stored.staged or self._context.meta.random_id()
        batch, position = tuple(self.stored.blocks[:count]), self.stored.staged_blocks
        del self.stored.blocks[:count]
        try:
            await propose(
                self._context,
                self._row,
                lambda row: StageBlocks(
                    bucket=row.name,
                    key=self._key,
                    bucket_epoch=row.epoch,
                    staged=list_id,
                    position=position,
                    blocks=batch,
                ),
                deadline=self._deadline,
            )
        except DwError as error:
            if not may_have_happened(error):
                self.stored.blocks[:0] = batch
            raise
        self.stored.staged_blocks += len(batch)

    async def discard(self) -> None:
        """Give up what was stored: the list through metadata, the rest on the devices. Best effort and shielded: what
        this misses is found by the abandonment time and the orphan sweep.
        """
        blocks = list(self.stored.blocks)
        ended = [task for task in self._writing if task.done() and not task.cancelled()]
        blocks.extend(task.result() for task in ended if task.exception() is None)
        self._writing.clear()
        if blocks:
            self._context.blocks.discard(blocks)
        if self.stored.staged:
            command = DropStaged(bucket=self._row.name, key=self._key, staged=self.stored.staged)
            try:
                await asyncio.shield(self._context.meta.keyed(command, deadline=self._deadline))
            except DwError:
                return


def may_have_happened(error: DwError) -> bool:
    """Whether a command that failed with `error` may still take effect: then its blocks must stay."""
    return isinstance(error, OutcomeUnknown)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show: the first that was meant for a caller, else the first."""
    flat: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop(0)
        if isinstance(error, BaseExceptionGroup):
            stack[:0] = list(error.exceptions)
        else:
            flat.append(error)
    return next((e for e in flat if isinstance(e, DwError)), flat[0])
