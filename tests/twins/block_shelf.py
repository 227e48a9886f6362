"""A block store in memory that remembers what was written and what was given up, and fails when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from dwd.base.blocks import StoredBlock
from dwd.base.errors import Corrupt, Unavailable
from dwd.base.ids import BlockId, LayoutEpoch, stamp_of
from dwd.base.policy import AUTO, Policy
from dwd.blocks.core.profiles import parse_profile
from dwd.blocks.ports import Owner
from dwd.runtime.clock import SystemClock
from dwd.runtime.files import Buffer


class BlockShelf:
    """Implements `dwd.blocks.ports.BlockStore`. `fail_at`: the write with this number (from 1) fails; `gate`: writes
    wait for it; `reads`: (block number, offset, length) of every read that began; `read_gate`: reads wait for it.
    """

    def __init__(self) -> None:
        self.held: dict[BlockId, bytes] = {}
        self.discarded: list[BlockId] = []
        self.writes = 0
        self.policies: list[Policy] = []
        self.fail_at = 0
        self.gate: asyncio.Event | None = None
        self.reads: list[tuple[int, int, int]] = []
        self.read_gate: asyncio.Event | None = None
        self.reads_ended = 0

    async def write(self, data: Buffer, *, policy: Policy, owner: Owner, deadline: float) -> StoredBlock:
        self.writes += 1
        number = self.writes
        await (self.gate.wait() if self.gate is not None else asyncio.sleep(0))
        if number == self.fail_at:
            raise Unavailable("test.write_failed", "no device takes it")
        block = BlockId(stamp_of(SystemClock().unix_ms()).to_bytes(8) + number.to_bytes(8))
        self.held[block] = bytes(data)
        self.policies.append(policy)
        return StoredBlock(block=block, profile="replica-3", length=len(data), crc32c=0, layout_epoch=LayoutEpoch(1))

    async def read(
        self, block: StoredBlock, *, owner: Owner, offset: int, length: int, deadline: float
    ) -> list[memoryview]:
        self.reads.append((int.from_bytes(block.block[8:]), offset, length))
        try:
            if self.read_gate is not None:
                await self.read_gate.wait()
            if block.block not in self.held:
                raise Corrupt("test.gone", "the block is gone")
            return [memoryview(self.held[block.block])[offset : offset + length]]
        finally:
            self.reads_ended += 1

    def validate(self, policy: Policy) -> None:
        if policy.profile not in {"", AUTO}:
            parse_profile(policy.profile)

    def wanted(self, policy: Policy, blocks: Sequence[StoredBlock]) -> tuple[StoredBlock, ...]:
        return tuple(replace(block, wanted=policy.profile) for block in blocks)

    def discard(self, blocks: Sequence[StoredBlock]) -> None:
        for block in blocks:
            self.discarded.append(block.block)
            del self.held[block.block]
