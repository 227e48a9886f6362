"""The block store of a node: `BlockStore` over erasure coding, devices everywhere, and repair's eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock, Rng
from dwd.base.errors import InvalidArgument, Unavailable
from dwd.base.ids import BLOCK_ID_BYTES, BlockId, stamp_of
from dwd.base.limits import BLOCK_BYTES, SMALL_BLOCK_BYTES
from dwd.blocks.codec import encode
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.profiles import Kind, Profile, scheme_for
from dwd.blocks.fragments import Fragments
from dwd.blocks.latency import Latencies
from dwd.blocks.layouts import profile_of
from dwd.blocks.ports import Owner
from dwd.blocks.reading import BlockReader, locations
from dwd.blocks.reports import Reports
from dwd.blocks.topology import Topology
from dwd.blocks.volumes.fragment import FragmentKey, encode_head, page_checksums
from dwd.blocks.writing import BlockWriter, Encoded, Leftovers
from dwd.journal.checksum import crc32c
from dwd.observability import metrics
from dwd.runtime.files import Buffer
from dwd.runtime.tasks import Tasks

_STAMP_BYTES = 8
_log = structlog.get_logger("dwd.blocks")
_WRITE_SECONDS = metrics.histogram("dwd.blocks.write.duration", "Time until a block is durable everywhere", "s")
_READ_SECONDS = metrics.histogram("dwd.blocks.read.duration", "Time to read from a block", "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    small_block_bytes: int = SMALL_BLOCK_BYTES


class ErasureBlockStore:
    """Owned by one event loop. `close` ends what is under way."""

    def __init__(
        self, *, topology: Topology, fragments: Fragments, clock: Clock, rng: Rng, options: StoreOptions | None = None
    ) -> None:
        self.reports = Reports()
        self.leftovers = Leftovers()
        self.latencies = Latencies(clock)
        self._topology, self._clock, self._rng = topology, clock, rng
        self._options = options or StoreOptions()
        self._tasks = Tasks("blocks.store", _swallow)
        self.reader = BlockReader(
            topology=topology, fragments=fragments, latencies=self.latencies, reports=self.reports,
            tasks=self._tasks, clock=clock,
        )  # fmt: skip
        self._writer = BlockWriter(
            topology=topology, fragments=fragments, latencies=self.latencies, leftovers=self.leftovers,
            tasks=self._tasks, clock=clock,
        )  # fmt: skip

    async def write(self, data: Buffer, *, profile: str, owner: Owner, deadline: float) -> StoredBlock:
        """As BlockStore.write. Also raises InvalidArgument: unknown profile, block empty or above BLOCK_BYTES."""
        if not 0 < len(data) <= BLOCK_BYTES:
            raise InvalidArgument("blocks.block_size", f"a block of {len(data)} bytes")
        began = self._clock.monotonic()
        layout = self._topology.layout()
        scheme = scheme_for(
            self.profile(profile, layout), len(data), small_block_bytes=self._options.small_block_bytes
        )  # fmt: skip
        encoded = encode_block(self.new_block_id(), scheme, data, layout, owner)
        stored = await self._writer.write(encoded, layout, deadline)
        _WRITE_SECONDS.record(self._clock.monotonic() - began, scheme=scheme.scheme)
        return stored

    async def read(
        self, block: StoredBlock, *, owner: Owner, offset: int, length: int, deadline: float
    ) -> list[memoryview]:
        """As BlockStore.read."""
        began = self._clock.monotonic()
        views = await self.reader.read(block, owner=owner, offset=offset, length=length, deadline=deadline)
        _READ_SECONDS.record(self._clock.monotonic() - began, scheme=block.profile)
        return views

    def discard(self, blocks: Sequence[StoredBlock]) -> None:
        """As BlockStore.discard."""
        for stored in blocks:
            try:
                where = locations(self._topology, stored)
            except Unavailable:
                continue  # its layout was retired meanwhile: the orphan sweep finds it
            for index, device in where.items():
                self.leftovers.add(device, FragmentKey(stored.block, index))

    def profile(self, name: str, layout: Layout) -> Profile:
        """What the bucket's word means now."""
        return profile_of(name, layout)

    def new_block_id(self) -> BlockId:
        stamp = stamp_of(self._clock.unix_ms())
        return BlockId(stamp.to_bytes(_STAMP_BYTES) + self._rng.token_bytes(BLOCK_ID_BYTES - _STAMP_BYTES))

    async def close(self) -> None:
        await self._tasks.close()


def encode_block(block: BlockId, profile: Profile, data: Buffer, layout: Layout, owner: Owner) -> Encoded:
    """Cut, code and checksum a block. The contents are views of `data` where the scheme allows."""
    contents = encode(profile, data)
    crc = crc32c(data)
    pages = [page_checksums(contents[0])] * len(contents) if profile.kind is Kind.COPIES else None
    heads = [
        encode_head(
            key=FragmentKey(block, index),
            profile=profile,
            block_length=len(data),
            block_crc32c=crc,
            length=len(content),
            partition=layout.partition_of(block),
            layout_epoch=layout.epoch,
            owner=owner,
            pages=pages[index] if pages else page_checksums(content),
        )
        for index, content in enumerate(contents)
    ]
    return Encoded(block=block, profile=profile, length=len(data), crc32c=crc, heads=heads, contents=contents)


def _swallow(task: str, error: BaseException) -> None:
    """Reads and writes look at their own tasks; what fails after they stopped looking is worth a line, no more."""
    _log.debug("fragment request failed", task=task, error=str(error))
