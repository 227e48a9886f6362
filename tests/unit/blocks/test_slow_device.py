"""A device that answers slowly but does not fail: what reads cost then. In virtual time, from a seed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from dwd.base.balance import Balancer, Strategy
from dwd.base.blocks import StoredBlock
from dwd.base.errors import NotFound
from dwd.base.ids import BlockId, DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.profiles import parse_profile
from dwd.blocks.fragments import Fetched, Purpose
from dwd.blocks.latency import Latencies
from dwd.blocks.ports import Owner
from dwd.blocks.reading import BlockReader
from dwd.blocks.reports import Reports
from dwd.blocks.store import encode_block
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.blocks.volumes.fragment import FragmentKey, decode_head
from dwd.runtime.tasks import Tasks
from tests.twins.memory_blocks import MemoryTopology, NodeTopology, SeededRng
from tests.twins.virtual_time import VirtualClock, VirtualLoop

OWNER = Owner(bucket="b", key="k")
NODES, BLOCKS, READERS, READS, SETTLING = 7, 24, 8, 4_000, 30
SLOW, ADDED_SECONDS = DeviceId(3), 0.5


@dataclass
class SlowShelf:
    """The reading part of `Fragments`, of all devices; each answers after 2 to 8 ms, `slow` ones later."""

    rng: SeededRng
    held: dict[tuple[DeviceId, FragmentKey], Fetched] = field(default_factory=dict)
    slow: dict[DeviceId, float] = field(default_factory=dict)
    asked: dict[DeviceId, int] = field(default_factory=dict)

    async def get(
        self,
        device: DeviceId,
        key: FragmentKey,
        *,
        offset: int,
        length: int,
        deadline: float,
        purpose: Purpose = Purpose.CLIENT,
    ) -> Fetched:
        self.asked[device] = self.asked.get(device, 0) + 1
        await asyncio.sleep(self.rng.uniform(0.002, 0.008) + self.slow.get(device, 0.0))
        found = self.held.get((device, key))
        if found is None:
            raise NotFound("test.absent", "not here")
        return Fetched(head=found.head, content=found.content[offset : offset + length])


class World:
    def __init__(self, profile: str, strategy: Strategy) -> None:
        self.clock, self.rng = VirtualClock(), SeededRng(5)
        self.topology = MemoryTopology()
        for number in range(1, NODES + 1):
            device = DeviceId(number)
            self.topology.views[device] = DeviceView(
                device=device, node=NodeId(number), zone="", rack="", weight=100, health=DeviceHealth.UP
            )
        layout = self.topology.relayout()
        self.shelf = SlowShelf(self.rng)
        self.latencies, self.tasks = Latencies(self.clock), Tasks("test", lambda *_: None)
        self.reader = BlockReader(
            topology=NodeTopology(self.topology, NodeId(1)), fragments=self.shelf, latencies=self.latencies,  # type: ignore[arg-type]
            reports=Reports(), tasks=self.tasks, clock=self.clock, balancer=Balancer(strategy, self.rng),
        )  # fmt: skip
        self.blocks = [self.store(profile, layout) for _ in range(BLOCKS)]

    def store(self, profile: str, layout: Layout) -> tuple[StoredBlock, bytes]:
        data = self.rng.token_bytes(4_000)
        block = BlockId(self.rng.token_bytes(16))
        encoded = encode_block(block, parse_profile(profile), data, layout, OWNER)
        for index, device in enumerate(layout.places(block, encoded.profile.fragments)):
            head = decode_head(encoded.heads[index])
            self.shelf.held[device, FragmentKey(block, index)] = Fetched(
                head=head, content=memoryview(encoded.contents[index])
            )
        stored = StoredBlock(
            block=block, profile=profile, length=len(data), crc32c=encoded.crc32c, layout_epoch=LayoutEpoch(1)
        )
        return stored, data

    async def p99(self, reads: int) -> float:
        times: list[float] = []

        async def reading(number: int) -> None:
            for turn in range(reads // READERS):
                stored, data = self.blocks[(number + turn * READERS) % BLOCKS]
                began = self.clock.monotonic()
                views = await self.reader.read(stored, owner=OWNER, offset=0, length=len(data), deadline=began + 60)
                times.append(self.clock.monotonic() - began)
                assert b"".join(views) == data

        await asyncio.gather(*(reading(number) for number in range(READERS)))
        return sorted(times)[int(len(times) * 0.99)]


def check(profile: str, strategy: Strategy) -> None:
    async def run() -> None:
        world = World(profile, strategy)
        healthy = await world.p99(READS)
        world.shelf.slow[SLOW] = ADDED_SECONDS
        slow = await world.p99(READS)
        assert slow < 2 * healthy, (slow, healthy)
        world.shelf.asked.clear()
        await world.p99(READS)
        assert world.latencies.sluggish(SLOW)
        assert world.shelf.asked.get(SLOW, 0) < 10  # but for a probe now and then
        world.shelf.slow.clear()
        for _ in range(SETTLING):
            await asyncio.sleep(1.0)
            await world.p99(READERS * 4)
        assert not world.latencies.sluggish(SLOW)
        world.shelf.asked.clear()
        await world.p99(READS)
        assert world.shelf.asked[SLOW] > READS / NODES / 4
        await world.tasks.close()

    loop = VirtualLoop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


def test_p99_less_than_doubles_and_the_device_is_read_again_when_one_of_a_reed_solomon_stripe_is_slow() -> None:
    check("rs-4-2", Strategy.ADAPTIVE)


def test_p99_less_than_doubles_when_one_replica_is_slow_and_turns_are_taken() -> None:
    check("replica-3", Strategy.ROUND_ROBIN)
