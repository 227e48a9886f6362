"""Once a pass, a sample of blocks is put to the proof from end to end: all fragments fetched, the block decoded from
parity, its checksum compared, and every fragment compared with what the block's bytes encode to.

Scrubbing proves that each device holds what it was given; this proves that together they are the block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from dwd.base.clock import Clock, Rng
from dwd.base.errors import Corrupt, DwError, NotFound
from dwd.base.ids import BlockId, GroupId
from dwd.blocks.codec import encode, rebuild
from dwd.blocks.core.profiles import Kind, Profile, parse_scheme
from dwd.blocks.core.scrubbing import DAY_SECONDS
from dwd.blocks.fragments import Fragments, Purpose
from dwd.blocks.ports import Owner
from dwd.blocks.reading import locations, mismatch
from dwd.blocks.reports import Reports
from dwd.blocks.topology import Topology
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.journal.checksum import crc32c
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.queries import FROM_THE_START
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.observability import metrics
from dwd.runtime.files import Buffer
from dwd.runtime.worker import Progress

SAMPLES_A_PASS = 1_000
"""Of each shard, spread over the period."""
PLACEMENTS = 1 << 16
CALL_SECONDS = 10.0
BLOCK_SECONDS = 60.0

_PROVED = metrics.counter("dwd.blocks.sampled", "Blocks decoded end to end by the sample, by outcome", "{block}")
_log = structlog.get_logger("dwd.blocks")


@dataclass(slots=True)
class _Looked:
    sound: dict[int, Buffer] = field(default_factory=dict)
    bad: list[int] = field(default_factory=list)


class SampleWorker:
    """Worker "blocks.sample", on the leader of each shard. `period_days` follows the cluster's setting."""

    name = "blocks.sample"
    idle_seconds = 5.0

    def __init__(
        self,
        *,
        catalogue: BlockCatalogue,
        topology: Topology,
        fragments: Fragments,
        reports: Reports,
        period_days: Callable[[], float],
        clock: Clock,
        rng: Rng,
    ) -> None:
        self._catalogue, self._topology, self._fragments = catalogue, topology, fragments
        self._reports, self._period_days, self._clock, self._rng = reports, period_days, clock, rng
        self._next_at: dict[GroupId, float] = {}

    async def work(self) -> Progress:
        now = self._clock.monotonic()
        every = self._period_days() * DAY_SECONDS / SAMPLES_A_PASS
        groups = self._catalogue.groups()
        self._next_at = {group: self._next_at.get(group, now + self._rng.uniform(0, every)) for group in groups}
        for group, at in self._next_at.items():
            if at <= now:
                self._next_at[group] = now + every
                owned = await self._draw(group)
                if owned is not None:
                    await self.prove(owned)
        return Progress.IDLE

    async def _draw(self, group: GroupId) -> OwnedBlock | None:
        """A block of a placement drawn by lot, or the nearest after it."""
        for first in (self._rng.below(PLACEMENTS), 0):
            page = await self._catalogue.block_page(
                group, first=first, last=PLACEMENTS - 1, after=BlockId(FROM_THE_START), limit=1,
                deadline=self._clock.monotonic() + CALL_SECONDS,
            )  # fmt: skip
            if page.blocks:
                return page.blocks[0]
        return None

    async def prove(self, owned: OwnedBlock) -> bool:
        """Whether everything the row says is so; what is not is reported. Raises Unavailable (an unknown layout)."""
        row, scheme = owned.stored, parse_scheme(owned.stored.profile)
        looked = _Looked()
        for index, device in locations(self._topology, row).items():
            try:
                fetched = await self._fragments.get(
                    device, FragmentKey(row.block, index), offset=0, length=scheme.fragment_length(row.length),
                    deadline=self._clock.monotonic() + BLOCK_SECONDS, purpose=Purpose.REPAIR,
                )  # fmt: skip
            except (NotFound, Corrupt):
                looked.bad.append(index)
                continue
            except DwError:
                continue  # it is away: repair's affair, if it stays so
            if mismatch(fetched.head, row):
                looked.bad.append(index)
            else:
                looked.sound[index] = fetched.content
        if len(looked.sound) >= scheme.data:
            odd = odd_fragments(scheme, looked.sound, row.length, row.crc32c)
            if odd is None:
                _PROVED.add(1, outcome="undecided")
                _log.error("no choice of a sampled block's fragments gives the block", block=row.block.hex())
                return False
            looked.bad.extend(odd)
        if looked.bad:  # whoever deleted or moved the block meanwhile changed its row: the report then comes to nothing
            for index in looked.bad:
                self._reports.add(row, Owner(bucket=owned.bucket, key=owned.key), index, "sample")
            _log.warning("a sampled block is not what it should be", block=row.block.hex(), fragments=looked.bad)
        _PROVED.add(1, outcome="bad" if looked.bad else "sound")
        return not looked.bad


def odd_fragments(scheme: Profile, sound: dict[int, Buffer], length: int, crc: int) -> list[int] | None:
    """Which of the fragments, each sound by itself, do not belong to the block of that checksum. None: it cannot be
    told, and none of them may be blamed, for a fragment that is blamed is given up.
    """
    if scheme.kind is Kind.COPIES:
        odd = [index for index, content in sound.items() if crc32c(content) != crc]
        return odd if len(odd) < len(sound) else None
    order = sorted(sound, reverse=True)  # parity first: that is what nobody reads
    for without in (None, *order):
        used = [index for index in order if index != without][: scheme.data]
        if len(used) < scheme.data:
            continue
        parts = rebuild(scheme, {index: sound[index] for index in used}, range(scheme.data))
        block = b"".join(bytes(part) for part in parts)[:length]
        if crc32c(block) == crc:
            wanted = encode(scheme, block)
            return [index for index, content in sound.items() if bytes(content) != bytes(wanted[index])]
    return None
