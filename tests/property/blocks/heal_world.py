"""A small cluster in which repair, rebalance, collection and the orphan sweep run side by side with clients, one step
at a time in an order that a seed decides.

Real: the shard's state machine (SQLite), Repairer, GcWorker, OrphanWorker, encoding. In memory: devices, the wire.
Every call on a device or the shard is a message that waits until the seed delivers it, also after its caller was
killed, as a request that is under way is carried out all the same; answers go to whoever still waits.

Law: a fragment that a live row names is never deleted. Checked at every deletion and at every commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random  # noqa: TID251 - seeded, in a test
from typing import Any

from dwd.base.balance import Balancer, Strategy
from dwd.base.blocks import StoredBlock
from dwd.base.errors import DwError, NotFound, Unavailable
from dwd.base.ids import BlockId, DeviceId, GroupId, LayoutEpoch, NodeId, Stamp, stamp_of
from dwd.base.limits import ORPHAN_GRACE_SECONDS
from dwd.blocks.core.layout import LayoutDevice
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.fragments import CopyKey, Fetched, HeldFragment, Purpose, PutFragment
from dwd.blocks.gc import GcOptions, GcWorker
from dwd.blocks.orphans import OrphanOptions, OrphanWorker
from dwd.blocks.ports import Owner
from dwd.blocks.reading import locations
from dwd.blocks.repair import DEAD_AFTER_MS, Outcome, Repairer
from dwd.blocks.repair_reading import repair_reader
from dwd.blocks.reports import Reports
from dwd.blocks.store import encode_block
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.blocks.volumes.fragment import FragmentKey, decode_head
from dwd.meta.core.shard.commands import NEVER, AckGc, AdvanceBlocks, DeleteObject, PutObject, UpdateBlock
from dwd.meta.core.shard.queries import BlockPage, FindBlocks, GcPage, GetCounts, RepairPage
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.runtime.tasks import Tasks
from tests.twins.manual_clock import ManualClock
from tests.twins.memory_blocks import MemoryTopology, NodeTopology, SeededRng
from tests.twins.meta_group import Group

GROUP = GroupId(1)
KEYS = ("a", "b", "c")
DEVICES = 5
PROFILE = "rs-2-1"
DATA = bytes(range(256)) * 2
GRACE = float(ORPHAN_GRACE_SECONDS)
LINGER_SHARE = 0.8
SETTLE_TURNS = 12
"""Turns of the loop after which every task waits for a message."""


class LawBroken(AssertionError):
    pass


class Wire:
    """Messages under way. `deliver` carries one out and hands its answer on."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    async def send(self, work: Callable[[], Any]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((work, future))
        return await future

    def deliver(self, number: int) -> None:
        work, future = self.waiting.pop(number)
        try:
            answer = work()
        except DwError as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(answer)


@dataclass(slots=True)
class Copy:
    number: int
    head: bytes
    content: bytes
    sound: bool = True


class Shelf:
    """One device: fragments and which copy of each it has."""

    def __init__(self) -> None:
        self.held: dict[FragmentKey, Copy] = {}
        self.up = True


class World:
    def __init__(self, path: Path, seed: int) -> None:
        self.random, self.clock, self.wire = Random(seed), ManualClock(), Wire()
        self.shard = Group(path)
        self.clock.set_unix_ms(self.shard.now_ms)
        self.shared = MemoryTopology()
        self.shelves: dict[DeviceId, Shelf] = {}
        self.copies = 0
        self.next_device = 0
        self.destroyed: set[tuple[DeviceId, FragmentKey]] = set()
        self.rows: dict[BlockId, StoredBlock] = {}
        """Of the shard, as of its last command."""
        self.log: list[str] = []
        for _ in range(DEVICES):
            self.add_device()
        self.relayout()
        self.tasks = Tasks("sim", lambda _name, _error: None)
        self.actors: list[asyncio.Task[Any]] = []
        self.sweeps = [self._sweep(device) for device in self.shelves]

    # --- the cluster

    def add_device(self) -> DeviceId:
        self.next_device += 1
        device = DeviceId(self.next_device)
        self.shelves[device] = Shelf()
        self.shared.views[device] = DeviceView(
            device=device, node=NodeId(self.next_device), zone="", rack="", weight=10, health=DeviceHealth.UP
        )
        return device

    def relayout(self) -> None:
        views = [v for v in self.shared.views.values() if v.placed]
        devices = [
            LayoutDevice(device=v.device, node=v.node, weight=v.weight) for v in sorted(views, key=lambda v: v.device)
        ]
        epoch = LayoutEpoch(len(self.shared.layouts) + 1)
        previous = self.shared.layouts[-1] if self.shared.layouts else None
        self.shared.layouts.append(plan_layout(devices, epoch=epoch, previous=previous, partitions=4))

    def topology(self) -> NodeTopology:
        return NodeTopology(self.shared, NodeId(1))

    # --- the shard, with the law

    def command(self, command: Any) -> Any:
        """Apply one, then check that everything it made live is where its rows say."""
        self.shard.now_ms = self.clock.unix_ms()
        receipt = self.shard.send(command)
        before, self.rows = self.rows, self._rows()
        for block, row in self.rows.items():
            if before.get(block) != row:
                self.check_row(row)
        return receipt

    def _rows(self) -> dict[BlockId, StoredBlock]:
        page = self.shard.ask(BlockPage(first=0, last=0xFFFF, limit=1_000))
        return {owned.stored.block: owned.stored for owned in page.blocks}

    def check_row(self, row: StoredBlock) -> None:
        for index, device in locations(self.topology(), row).items():
            key = FragmentKey(row.block, index)
            if key not in self.shelves[device].held and (device, key) not in self.destroyed:
                raise LawBroken(f"row names fragment {index} of {row.block.hex()} on {device}, which does not hold it")

    def removing(self, device: DeviceId, key: FragmentKey) -> None:
        row = self.rows.get(key.block)
        if row is not None and locations(self.topology(), row).get(key.index) == device:
            raise LawBroken(
                f"fragment {key.index} of {key.block.hex()} is deleted from {device}, where its row names it"
            )

    # --- what runs

    def put(self, key: str) -> None:
        self._start(self._put(key))

    async def _put(self, key: str) -> None:
        layout = self.shared.layouts[-1]
        block = BlockId(stamp_of(self.clock.unix_ms()).to_bytes(8) + self.random.randbytes(8))
        owner = Owner(bucket="b", key=key)
        encoded = encode_block(block, parse_scheme(PROFILE), DATA, layout, owner)
        fragments = self.fragments()
        for index, device in enumerate(layout.places(block, encoded.profile.fragments)):
            await fragments.put(
                PutFragment(device=device, key=FragmentKey(block, index), layout_epoch=layout.epoch,
                            head=encoded.heads[index], content=encoded.contents[index]),
                deadline=0.0,
            )  # fmt: skip
        stored = StoredBlock(
            block=block, profile=PROFILE, length=len(DATA), crc32c=encoded.crc32c, layout_epoch=layout.epoch
        )
        command = PutObject(bucket="b", key=key, bucket_epoch=1, size=len(DATA), etag="e", blocks=(stored,))
        await self.wire.send(lambda: self.command(command))

    def delete(self, key: str) -> None:
        async def work() -> None:
            command = DeleteObject(bucket="b", key=key, bucket_epoch=1)
            await self.wire.send(lambda: self.command(command))

        self._start(work())

    def repair(self) -> None:
        """Of some row, as some leader (of now or of before) knows it."""
        if self.rows:
            row = self.random.choice(sorted(self.rows.values(), key=lambda r: r.block))
            self._start(self._repair(row))

    async def _repair(self, row: StoredBlock) -> Outcome:
        account = await self.repairer().repair(GROUP, OwnedBlock(stored=row, bucket="b", key="a"), deadline=1e12)
        return account.outcome

    def repairer(self) -> Repairer:
        fragments = self.fragments()
        readers = {
            purpose: repair_reader(
                topology=self.topology(), fragments=fragments, reports=Reports(), tasks=self.tasks, clock=self.clock,
                purpose=purpose, balancer=Balancer(Strategy.ROUND_ROBIN, SeededRng(1)),
            )
            for purpose in (Purpose.REPAIR, Purpose.URGENT)
        }  # fmt: skip
        nothing: Any = NothingAnew()
        return Repairer(
            topology=self.topology(), fragments=fragments, readers=readers, anew=nothing, catalogue=SimCatalogue(self),
            clock=self.clock, dead_after_ms=DEAD_AFTER_MS,
        )  # fmt: skip

    def collect(self) -> None:
        worker = GcWorker(
            catalogue=SimCatalogue(self), topology=self.topology(), fragments=self.fragments(), clock=self.clock,
            options=GcOptions(delay_seconds=10.0),
        )  # fmt: skip
        self._start(worker.work())

    def sweep(self, device: DeviceId | None = None) -> None:
        """Of one device, or of any."""
        number = self.random.randrange(len(self.sweeps)) if device is None else list(self.shelves).index(device)
        self._start(self.sweeps[number].work())

    def _sweep(self, device: DeviceId) -> OrphanWorker:
        local: Any = SweptShelf(self, device)
        return OrphanWorker(
            local=local, owner=SimOwner(self), topology=self.topology(), clock=self.clock, options=OrphanOptions()
        )

    def fragments(self) -> SimFragments:
        return SimFragments(self)

    def _start(self, work: Awaitable[Any]) -> None:
        async def quietly() -> None:
            try:
                await work
            except LawBroken:
                raise
            except DwError:
                return

        self.actors.append(self.tasks.spawn(quietly(), name="actor"))

    # --- time passes

    async def settle(self) -> None:
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)
        broken = [t.exception() for t in self.actors if t.done() and not t.cancelled() and t.exception() is not None]
        self.actors = [task for task in self.actors if not task.done()]
        if broken:
            raise broken[0]

    async def deliver(self) -> None:
        """Mostly one of the newest: some messages stay under way for very long."""
        if self.wire.waiting:
            count = len(self.wire.waiting)
            newest = min(count, 3) if self.random.random() < LINGER_SHARE else count
            self.wire.deliver(count - 1 - self.random.randrange(newest))
        await self.settle()

    def kill(self) -> None:
        """An actor dies; what it sent is under way."""
        if self.actors:
            self.random.choice(self.actors).cancel()

    async def drain(self) -> None:
        while self.wire.waiting or self.actors:
            await self.deliver()

    def redundant(self) -> bool:
        """Every live block has all its fragments where the newest layout wants them."""
        newest = self.shared.layouts[-1]
        for row in self.rows.values():
            wanted = newest.places(row.block, parse_scheme(row.profile).fragments)
            if row.layout_epoch != newest.epoch or row.needs_repair:
                return False
            for index, device in enumerate(wanted):
                copy = self.shelves[device].held.get(FragmentKey(row.block, index))
                if copy is None or not copy.sound:
                    return False
        return True

    def unnamed(self) -> list[DeviceId]:
        """Where copies lie that no row names: as often as there are such."""
        return [
            device
            for device, shelf in self.shelves.items()
            for key in shelf.held
            if self.rows.get(key.block) is None
            or locations(self.topology(), self.rows[key.block]).get(key.index) != device
        ]

    async def close(self) -> None:
        await self.tasks.close()
        self.shard.close()


class NothingAnew:
    async def upgrade(self, *_: Any, **__: Any) -> None:
        return None


class SimFragments:
    """`Fragments` whose calls are messages."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def put(self, fragment: PutFragment, *, deadline: float) -> None:
        world = self._world

        def work() -> None:
            shelf = _reach(world, fragment.device)
            world.copies += 1
            shelf.held[fragment.key] = Copy(world.copies, bytes(fragment.head), bytes(fragment.content))
            world.destroyed.discard((fragment.device, fragment.key))

        await world.wire.send(work)

    async def get(
        self, device: DeviceId, key: FragmentKey, *, offset: int, length: int, deadline: float,
        purpose: Purpose = Purpose.CLIENT,
    ) -> Fetched:  # fmt: skip
        def work() -> Fetched:
            copy = _reach(self._world, device).held.get(key)
            if copy is None or not copy.sound:
                raise NotFound("blocks.no_such_fragment", "gone")
            return Fetched(head=decode_head(copy.head), content=memoryview(copy.content)[offset : offset + length])

        found: Fetched = await self._world.wire.send(work)
        return found

    async def delete(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        def work() -> None:
            shelf = _reach(self._world, device)
            for key in keys:
                if key in shelf.held:
                    self._world.removing(device, key)
                    del shelf.held[key]

        await self._world.wire.send(work)

    delete_leftovers = delete

    async def delete_copies(self, device: DeviceId, copies: Sequence[CopyKey], *, deadline: float) -> None:
        await self._world.wire.send(lambda: remove_copies(self._world, device, copies))

    async def held(
        self, device: DeviceId, blocks: Sequence[BlockId], *, verify: bool, deadline: float
    ) -> tuple[HeldFragment, ...]:
        wanted = frozenset(blocks)

        def work() -> tuple[HeldFragment, ...]:
            return tuple(
                HeldFragment(key=key, length=len(copy.content), sound=copy.sound if verify else None, copy=copy.number)
                for key, copy in _reach(self._world, device).held.items()
                if key.block in wanted
            )

        found: tuple[HeldFragment, ...] = await self._world.wire.send(work)
        return found


def remove_copies(world: World, device: DeviceId, copies: Sequence[CopyKey]) -> None:
    shelf = _reach(world, device)
    for copy in copies:
        found = shelf.held.get(copy.key)
        if found is not None and found.number == copy.copy:
            world.removing(device, copy.key)
            del shelf.held[copy.key]


def _reach(world: World, device: DeviceId) -> Shelf:
    shelf = world.shelves[device]
    if not shelf.up:
        raise Unavailable("rpc.unavailable", "down")
    return shelf


class SimCatalogue:
    """`BlockCatalogue` over the state machine, by messages."""

    def __init__(self, world: World) -> None:
        self._world = world

    def groups(self) -> tuple[GroupId, ...]:
        return (GROUP,)

    def position(self, group: GroupId) -> Any:
        return self._world.shard.machine.position().index

    async def gc_page(self, group: GroupId, *, before: Stamp, after: BlockId, limit: int, deadline: float) -> Any:
        return await self._ask(GcPage(before=before, after=after, limit=limit))

    async def ack_gc(self, group: GroupId, blocks: tuple[BlockId, ...], *, deadline: float) -> int:
        receipt = await self._world.wire.send(lambda: self._world.command(AckGc(blocks=blocks)))
        return int(receipt.count)

    async def repair_page(self, group: GroupId, *, after: BlockId, limit: int, deadline: float) -> Any:
        return await self._ask(RepairPage(after=after, limit=limit))

    async def block_page(
        self, group: GroupId, *, first: int, last: int, after: BlockId, limit: int, deadline: float
    ) -> Any:
        return await self._ask(BlockPage(first=first, last=last, after=after, limit=limit))

    async def find(self, group: GroupId, blocks: tuple[BlockId, ...], *, deadline: float) -> Any:
        return await self._ask(FindBlocks(blocks=blocks))

    async def update_block(
        self, group: GroupId, old: StoredBlock, new: StoredBlock, *, made: Stamp = NEVER, deadline: float
    ) -> None:
        await self._world.wire.send(lambda: self._world.command(UpdateBlock(old=old, new=new, made=made)))

    async def replace_block(self, group: GroupId, old: StoredBlock, new: StoredBlock, *, deadline: float) -> None:
        raise NotImplementedError

    async def advance(
        self, group: GroupId, blocks: tuple[StoredBlock, ...], epoch: LayoutEpoch, *, deadline: float
    ) -> int:
        receipt = await self._world.wire.send(
            lambda: self._world.command(AdvanceBlocks(blocks=blocks, layout_epoch=epoch))
        )
        return int(receipt.count)

    async def counts(self, group: GroupId, *, deadline: float) -> Any:
        return await self._ask(GetCounts())

    async def _ask(self, query: Any) -> Any:
        return await self._world.wire.send(lambda: self._world.shard.ask(query))


class SimOwner:
    def __init__(self, world: World) -> None:
        self._world = world

    async def rows(self, blocks: Sequence[tuple[BlockId, Owner]], *, deadline: float) -> dict[BlockId, StoredBlock]:
        wanted = tuple(block for block, _ in blocks)
        answer = await self._world.wire.send(lambda: self._world.shard.ask(FindBlocks(blocks=wanted)))
        return {owned.stored.block: owned.stored for owned in answer.blocks}


class SweptShelf:
    """One device of a node, as its orphan sweep sees it."""

    def __init__(self, world: World, device: DeviceId) -> None:
        self._world, self.id = world, device

    def devices(self) -> list[SweptShelf]:
        return [self]

    async def aged(self, after: FragmentKey, limit: int, before: Stamp) -> list[tuple[CopyKey, Owner | None]]:
        held = self._world.shelves[self.id].held
        return [
            (CopyKey(key, held[key].number), decode_head(held[key].head).owner)
            for key in sorted(held, key=lambda k: (k.block, k.index))
            if (key.block, key.index) > (after.block, after.index) and key.block < before.to_bytes(8)
        ][:limit]

    async def delete_copies(self, copies: Sequence[CopyKey]) -> None:
        """Here, but not at once: whatever happens until then happens."""
        await self._world.wire.send(lambda: remove_copies(self._world, self.id, copies))
