"""The block store of a node: `BlockStore` over erasure coding, devices everywhere, and repair's eyes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from dwd.base.balance import Balancer, Strategy
from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock, Rng
from dwd.base.errors import Busy, InvalidArgument, InvariantViolation, Unavailable
from dwd.base.ids import BLOCK_ID_BYTES, BlockId, stamp_of
from dwd.base.limits import PACKED_BLOCK_BYTES_MAX, SMALL_BLOCK_BYTES
from dwd.base.policy import Policy, Tier
from dwd.blocks.codec import encode
from dwd.blocks.core.choice import TIER_DEFAULT, Choice, choose, fallback_on, fallbacks, shortfall, validate
from dwd.blocks.core.domains import Domains, domains_of
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.profiles import Kind, Profile, scheme_for
from dwd.blocks.fragments import Fragments, Purpose
from dwd.blocks.latency import Latencies
from dwd.blocks.policies import layout_domains
from dwd.blocks.ports import Owner
from dwd.blocks.reading import BlockReader, locations
from dwd.blocks.repair_reading import repair_reader
from dwd.blocks.reports import Reports
from dwd.blocks.topology import Topology
from dwd.blocks.volumes.fragment import FragmentKey, encode_head, page_checksums
from dwd.blocks.writing import NO_PLACEMENT, BlockWriter, Encoded, Leftovers
from dwd.journal.checksum import crc32c
from dwd.observability import metrics
from dwd.runtime.files import Buffer
from dwd.runtime.tasks import Tasks

_STAMP_BYTES = 8
_log = structlog.get_logger("dwd.blocks")
_WRITE_SECONDS = metrics.histogram("dwd.blocks.write.duration", "Time until a block is durable everywhere", "s")
_WEAKER = metrics.counter("dwd.blocks.writes.fallback", "Blocks written with a weaker profile than wanted", "{block}")
_READ_SECONDS = metrics.histogram("dwd.blocks.read.duration", "Time to read from a block", "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    small_block_bytes: int = SMALL_BLOCK_BYTES
    tier: Callable[[], Tier] = lambda: TIER_DEFAULT
    """The cluster's, for buckets that name none."""
    read_balance: Strategy = Strategy.ADAPTIVE


class ErasureBlockStore:
    """Owned by one event loop. `close` ends what is under way."""

    def __init__(
        self, *, topology: Topology, fragments: Fragments, clock: Clock, rng: Rng, options: StoreOptions | None = None
    ) -> None:
        self.reports = Reports()
        self.leftovers = Leftovers()
        self.latencies = Latencies(clock)
        self._hide = self.latencies.show()
        self._topology, self._clock, self._rng, self._fragments = topology, clock, rng, fragments
        self._options = options or StoreOptions()
        self._tasks = Tasks("blocks.store", _swallow)
        self._domains: tuple[Layout, Domains] | None = None
        self.reader = BlockReader(
            topology=topology, fragments=fragments, latencies=self.latencies, reports=self.reports,
            tasks=self._tasks, clock=clock, balancer=Balancer(self._options.read_balance, rng),
        )  # fmt: skip
        self._writer = BlockWriter(
            topology=topology, fragments=fragments, latencies=self.latencies, leftovers=self.leftovers,
            tasks=self._tasks, clock=clock,
        )  # fmt: skip

    async def write(self, data: Buffer, *, policy: Policy, owner: Owner, deadline: float) -> StoredBlock:
        """As BlockStore.write. Also raises InvalidArgument: unknown profile, block empty or too long."""
        began = self._clock.monotonic()
        layout = self._topology.layout()
        wanted = self.scheme(self.choice(policy).profile, len(data))
        stored = await self._write(data, wanted, layout, owner, deadline, fall_back=policy.allow_fallback)
        _WRITE_SECONDS.record(self._clock.monotonic() - began, scheme=stored.profile)
        return stored

    async def store_as(self, data: Buffer, scheme: Profile, *, owner: Owner, deadline: float) -> StoredBlock:
        """Write the block under this scheme, or not at all. Raises as `write`."""
        return await self._write(data, scheme, self._topology.layout(), owner, deadline, fall_back=False)

    async def _write(
        self, data: Buffer, wanted: Profile, layout: Layout, owner: Owner, deadline: float, *, fall_back: bool
    ) -> StoredBlock:
        if not 0 < len(data) <= PACKED_BLOCK_BYTES_MAX:
            raise InvalidArgument("blocks.block_size", f"a block of {len(data)} bytes")
        tried = self._tried(wanted) if fall_back else [wanted]
        for scheme in tried:
            encoded = encode_block(self.new_block_id(), scheme, data, layout, owner)
            try:
                stored = await self._writer.write(encoded, layout, deadline)
            except Busy as error:
                if error.code != NO_PLACEMENT or scheme is tried[-1]:
                    raise
                continue
            if scheme is wanted:
                return stored
            _WEAKER.add(1, wanted=wanted.scheme, scheme=scheme.scheme)
            return replace(stored, wanted=wanted.scheme)
        raise InvariantViolation("a write without a profile")

    def _tried(self, wanted: Profile) -> list[Profile]:
        """What may be written in place of `wanted`, itself first where the cluster has devices enough for it."""
        up = self._domains_up()
        weaker = [scheme for scheme in fallbacks(wanted) if not shortfall(scheme, up)]
        fits = not shortfall(wanted, self.domains())
        return [*([wanted] if fits else []), *weaker] or [wanted]

    def choice(self, policy: Policy) -> Choice:
        """What the policy means now: on the devices of the layout."""
        return choose(policy, self.domains(), self._options.tier())

    def validate(self, policy: Policy) -> None:
        """As BlockStore.validate."""
        validate(policy, self.domains(), self._options.tier())

    def scheme(self, profile: Profile, length: int) -> Profile:
        """How a block of that length is stored under the profile."""
        return scheme_for(profile, length, small_block_bytes=self._options.small_block_bytes)

    def wanted(self, policy: Policy, blocks: Sequence[StoredBlock]) -> tuple[StoredBlock, ...]:
        """As BlockStore.wanted."""
        found = []
        for stored in blocks:
            scheme = self.scheme(self.choice(policy).profile, stored.length).scheme
            found.append(replace(stored, wanted="" if stored.profile == scheme else scheme))
        return tuple(found)

    def effective(self, policy: Policy, length: int) -> tuple[Profile, str]:
        """What a block of that length should be stored as now, and what the row then says it should be."""
        wanted = self.scheme(self.choice(policy).profile, length)
        if not policy.allow_fallback or not shortfall(wanted, self.domains()):
            return wanted, ""
        weaker = fallback_on(wanted, self.domains())
        return (wanted, "") if weaker is None else (weaker, wanted.scheme)

    def holds(self, scheme: Profile) -> bool:
        """Whether a block of this scheme could be written now as it should be: each fragment on a device of its own."""
        return not shortfall(scheme, self.domains()) and not shortfall(scheme, self._domains_up())

    def domains(self) -> Domains:
        """Of the layout's devices. Raises Unavailable blocks.no_layout."""
        layout = self._topology.layout()
        if self._domains is None or self._domains[0] is not layout:
            self._domains = (layout, layout_domains(layout))
        return self._domains[1]

    def _domains_up(self) -> Domains:
        return domains_of((d.zone, d.node) for d in self._topology.layout().devices if self._writer.usable(d.device))

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

    def new_block_id(self) -> BlockId:
        stamp = stamp_of(self._clock.unix_ms())
        return BlockId(stamp.to_bytes(_STAMP_BYTES) + self._rng.token_bytes(BLOCK_ID_BYTES - _STAMP_BYTES))

    def repair_reader(self, purpose: Purpose) -> BlockReader:
        """For repair, which goes when clients let it."""
        return repair_reader(
            topology=self._topology, fragments=self._fragments, reports=self.reports, tasks=self._tasks,
            clock=self._clock, balancer=Balancer(self._options.read_balance, self._rng), purpose=purpose,
        )  # fmt: skip

    async def close(self) -> None:
        await self._tasks.close()
        self._hide()


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
