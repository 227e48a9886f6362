"""Making one block whole again, and moving it to where the newest layout wants it: one procedure for both.

A fragment whose place changes is copied from where it is; only what is missing or cannot be read is decoded from the
others. Fragments are written and read back before the row names them, the row changes by compare-and-swap, and only
then is what it no longer names deleted.

Invariants, which make it safe at any point and any number of times at once:
* a row begins to name a place only after a copy was written there for that very change: no copy that was lying about is
  ever relied on, so whoever removes strays (`dwd.blocks.orphans`) cannot meet one that is about to be named;
* a deletion names the copies it saw before the row changed: what somebody wrote there since stays;
* the shard refuses a change whose copies were written too long ago (meta.repair_too_old).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain

from dwd.base.blocks import Handoff, StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import Conflict, Corrupt, DwError, InvariantViolation, NotFound
from dwd.base.ids import DeviceId, GroupId, LayoutEpoch, stamp_of
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.needs import World, world_of
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.core.substitutes import substitute
from dwd.blocks.fragments import CopyKey, Fragments, Purpose, PutFragment
from dwd.blocks.gc import delete_all
from dwd.blocks.ports import Owner
from dwd.blocks.reading import BlockReader, locations, mismatch
from dwd.blocks.recount import Recount
from dwd.blocks.reencode import Anew, Reencoder
from dwd.blocks.store import encode_block
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.blocks.volumes.fragment import FragmentHead, FragmentKey, encode_head
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.runtime.files import Buffer

DEAD_AFTER_MS = 600_000
DELETE_SECONDS = 10.0


class Outcome(Enum):
    WHOLE = "whole"
    """Every fragment is where it belongs."""
    BETTER = "better"
    """Something was done, something is still on loan or away."""
    WAITING = "waiting"
    """Nothing can be done before devices come back or the layout changes."""
    GONE = "gone"
    """The block was deleted or changed meanwhile."""


@dataclass(slots=True, kw_only=True)
class Account:
    """What was done for one block. `read` and `written` are fragments as (index, device)."""

    outcome: Outcome = Outcome.WAITING
    decoded: bool = False
    """The whole block was read to make what was missing; else fragments were copied as they are."""
    read: set[tuple[int, DeviceId]] = field(default_factory=set)
    written: set[tuple[int, DeviceId]] = field(default_factory=set)
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """`final[i]`: where fragment i will be, None: nowhere. `make`: those to be written there."""

    final: tuple[DeviceId | None, ...]
    make: tuple[int, ...]

    def wanted(self) -> list[tuple[int, DeviceId]]:
        return [(index, device) for index in self.make if (device := self.final[index]) is not None]


@dataclass(slots=True, kw_only=True)
class _Work:
    """One block under repair, and which devices would not take it: each is asked once."""

    group: GroupId
    row: StoredBlock
    owner: Owner
    layout: Layout
    world: World
    places: Mapping[int, DeviceId]
    target: tuple[DeviceId, ...]
    purpose: Purpose
    deadline: float
    account: Account
    ready: dict[int, tuple[bytes, Buffer]] = field(default_factory=dict)
    """Head and content of fragments, as they will be written."""
    refused: set[DeviceId] = field(default_factory=set)
    unread: set[int] = field(default_factory=set)
    """Fragments that could not be had from where the row says."""
    errors: list[DwError] = field(default_factory=list)


class Repairer:
    """`readers` read blocks for repair, and for urgent repair: told apart from clients by the devices."""

    def __init__(
        self,
        *,
        topology: Topology,
        fragments: Fragments,
        readers: Mapping[Purpose, BlockReader],
        anew: Reencoder,
        catalogue: BlockCatalogue,
        clock: Clock,
        dead_after_ms: int = DEAD_AFTER_MS,
    ) -> None:
        self._topology, self._fragments, self._readers = topology, fragments, readers
        self._reader = readers[Purpose.REPAIR]
        self._catalogue, self._clock, self._dead_after_ms = catalogue, clock, dead_after_ms
        self._anew = anew
        self._recount = Recount(topology=topology, fragments=fragments, clock=clock)

    def world(self) -> World:
        """The cluster now."""
        return world_of(
            self._topology.layout().epoch, self._topology.devices(), self._clock.unix_ms(), self._dead_after_ms
        )

    async def repair(self, group: GroupId, owned: OwnedBlock, *, deadline: float, urgent: bool = False) -> Account:
        """Raises Unavailable, Corrupt (cannot be read now), Busy, NoSpace, StorageFailed, DeadlineExceeded."""
        upgraded = await self._anew.upgrade(self._catalogue, group, owned, deadline=deadline)
        if upgraded is not None:
            stored = upgraded is Anew.STORED
            return Account(outcome=Outcome.WHOLE if stored else Outcome.GONE, decoded=stored)
        row, layout = owned.stored, self._topology.layout()
        work = _Work(
            group=group,
            row=row,
            owner=Owner(bucket=owned.bucket, key=owned.key),
            layout=layout,
            world=self.world(),
            places=locations(self._topology, row),
            target=layout.places(row.block, parse_scheme(row.profile).fragments),
            purpose=Purpose.URGENT if urgent else Purpose.REPAIR,
            deadline=deadline,
            account=Account(),
        )
        began = stamp_of(self._clock.unix_ms())
        plan = self._plan(work)
        while missing := [place for place in plan.wanted() if place not in work.account.written]:
            await self._fetch(work, [index for index, _ in missing])
            await self._put(work, missing)
            plan = self._plan(work)
        new = _row(row, plan, work.target, layout.epoch)
        if new == row:
            if work.errors and not work.account.written:
                raise work.errors[0]
            short = row.not_as_wanted or not work.world.dead.isdisjoint(work.places.values())
            work.account.outcome = Outcome.WAITING if short else Outcome.WHOLE
            return work.account
        await self._verify(work, plan)
        left = await self._left(work, plan)
        try:
            made = began if work.account.written else stamp_of(0)
            await self._catalogue.update_block(group, row, new, made=made, deadline=deadline)
        except NotFound:
            await self._forget_all(work)
            work.account.outcome = Outcome.GONE
            return work.account
        except Conflict:
            work.account.outcome = Outcome.GONE  # somebody else repaired it: what we wrote may be what its row names
            return work.account
        await self._forget(left)
        work.account.outcome = Outcome.BETTER if new.not_as_wanted else Outcome.WHOLE
        return work.account

    def _plan(self, work: _Work) -> _Plan:
        world = work.world
        nodes = self._topology.devices()
        final: list[DeviceId | None] = []
        make: list[int] = []
        for index, home in enumerate(work.target):
            now = work.places.get(index)
            there = now is not None and now not in world.dead and now in nodes and index not in work.unread
            if now == home and there:
                final.append(home)
            elif self._takes(home, work):
                final.append(home)
                make.append(index)
            elif there and now not in world.leaving:
                final.append(now)
            else:
                final.append(None)
        self._lend(work, final, make)
        for index, place in enumerate(final):
            now = work.places.get(index)
            if place is None and self._may_return(now) and index not in work.unread:
                final[index] = now  # no better place: what may come back is not given up
        return _Plan(final=tuple(final), make=tuple(make))

    def _may_return(self, device: DeviceId | None) -> bool:
        view = self._topology.devices().get(device) if device is not None else None
        return view is not None and view.health is not DeviceHealth.LOST

    def _takes(self, device: DeviceId, work: _Work) -> bool:
        view = self._topology.devices().get(device)
        return view is not None and view.writable and self._reader.answers(device) and device not in work.refused

    def _lend(self, work: _Work, final: list[DeviceId | None], make: list[int]) -> None:
        """Find places for fragments that are nowhere good and whose own device cannot take them."""
        devices = self._topology.devices()
        order = dict.fromkeys(chain(work.layout.device_list(work.layout.partition_of(work.row.block)), sorted(devices)))
        nodes = {device: view.node for device, view in devices.items()}
        for index, place in enumerate(final):
            if place is None:
                taken = [device if device is not None else DeviceId(-1) for device in final]
                found = substitute(index, taken, order, nodes, lambda device: self._takes(device, work))
                if found is not None:
                    final[index] = found
                    make.append(index)

    async def _fetch(self, work: _Work, indexes: Collection[int]) -> None:
        """Have these fragments ready: as copies, or all at once decoded when one of them cannot be copied."""
        wanted = [index for index in indexes if index not in work.ready]
        if wanted and all(self._copyable(work, index) for index in wanted):
            async with asyncio.TaskGroup() as group:
                for index in wanted:
                    _ = group.create_task(self._copy(work, index))
        if any(index not in work.ready for index in wanted):
            await self._decode(work)

    def _copyable(self, work: _Work, index: int) -> bool:
        source = work.places.get(index)
        return source is not None and index not in work.unread and self._reader.answers(source)

    async def _copy(self, work: _Work, index: int) -> None:
        row, source = work.row, work.places[index]
        length = parse_scheme(row.profile).fragment_length(row.length)
        try:
            got = await self._fragments.get(
                source, FragmentKey(row.block, index), offset=0, length=length, deadline=work.deadline,
                purpose=work.purpose,
            )  # fmt: skip
        except (NotFound, Corrupt) as error:
            work.errors.append(error)
            work.unread.add(index)
            return
        except DwError as error:
            work.errors.append(error)
            return
        if mismatch(got.head, row) or got.head.key.index != index or len(got.content) != length:
            work.errors.append(Corrupt("blocks.fragment_stale", "a fragment is not of this block"))
            work.unread.add(index)
            return
        work.account.read.add((index, source))
        work.account.read_bytes += length
        work.ready[index] = (_head(got.head, work), got.content)

    async def _decode(self, work: _Work) -> None:
        row = work.row
        if work.unread:  # known to be gone or wrong: not asked for again
            row = replace(row, missing=tuple(sorted({*row.missing, *work.unread})))
        views = await self._readers[work.purpose].read(
            row, owner=work.owner, offset=0, length=row.length, deadline=work.deadline
        )
        profile = parse_scheme(row.profile)
        encoded = encode_block(row.block, profile, b"".join(views), work.layout, work.owner)
        work.ready = {i: (encoded.heads[i], encoded.contents[i]) for i in range(profile.fragments)}
        work.account.decoded = True
        work.account.read_bytes += profile.data * profile.fragment_length(row.length)
        work.account.read.update((i, d) for i, d in work.places.items() if i < profile.data and i not in work.unread)

    async def _put(self, work: _Work, places: Collection[tuple[int, DeviceId]]) -> None:
        async with asyncio.TaskGroup() as group:
            for index, device in places:
                _ = group.create_task(self._put_one(work, index, device))

    async def _put_one(self, work: _Work, index: int, device: DeviceId) -> None:
        if index not in work.ready:
            raise InvariantViolation("a fragment is written that was not read")
        head, content = work.ready[index]
        fragment = PutFragment(
            device=device,
            key=FragmentKey(work.row.block, index),
            layout_epoch=work.layout.epoch,
            head=head,
            content=content,
            purpose=work.purpose,
        )
        try:
            await self._fragments.put(fragment, deadline=work.deadline)
        except DwError as error:
            work.refused.add(device)
            work.errors.append(error)
        else:
            work.account.written.add((index, device))
            work.account.written_bytes += len(content)

    async def _verify(self, work: _Work, plan: _Plan) -> None:
        """Read back what was written, where it was written. Raises Unavailable, Corrupt."""
        asked = {device: (work.row.block,) for index, device in work.account.written if plan.final[index] == device}
        held = await self._recount.ask(asked, verify=True, deadline=work.deadline)
        for index, device in work.account.written:
            if plan.final[index] != device:
                continue
            answer = held.get(device)
            if answer is None:
                raise work.errors[0] if work.errors else _unverified(work.row, device)
            found = answer.get((work.row.block, index))
            if found is None or found.sound is not True:
                raise Corrupt("blocks.copy_unsound", f"the copy just written to device {device:016x} cannot be read")

    async def _left(self, work: _Work, plan: _Plan) -> dict[DeviceId, list[CopyKey]]:
        """The copies that the new row gives up, as they are before it does."""
        leaving: dict[DeviceId, list[int]] = {}
        for index, device in work.places.items():
            if plan.final[index] not in {None, device}:
                leaving.setdefault(device, []).append(index)
        asked = dict.fromkeys(leaving, (work.row.block,))
        held = await self._recount.ask(asked, verify=False, deadline=work.deadline)
        found: dict[DeviceId, list[CopyKey]] = {}
        for device, indexes in leaving.items():
            answer = held.get(device) or {}
            copies = [
                CopyKey(FragmentKey(work.row.block, index), answer[work.row.block, index].copy)
                for index in indexes
                if (work.row.block, index) in answer
            ]
            if copies:
                found[device] = copies
        return found

    async def _forget(self, left: Mapping[DeviceId, list[CopyKey]]) -> None:
        """Best effort: what stays is a stray of a device that did not answer."""
        for device, copies in left.items():
            try:
                await self._fragments.delete_copies(device, copies, deadline=self._clock.monotonic() + DELETE_SECONDS)
            except DwError:
                continue

    async def _forget_all(self, work: _Work) -> None:
        """The block is gone, and its id never comes back: so goes what was written for it."""
        for index, device in work.account.written:
            _ = await delete_all(self._fragments, self._clock, device, (FragmentKey(work.row.block, index),))


def _unverified(row: StoredBlock, device: DeviceId) -> DwError:
    return Corrupt("blocks.copy_unverified", f"device {device:016x} does not answer for block {row.block.hex()}")


def _head(head: FragmentHead, work: _Work) -> bytes:
    """The story of a fragment that moves: the same but for its place."""
    return encode_head(
        key=head.key,
        profile=parse_scheme(head.scheme),
        block_length=head.block_length,
        block_crc32c=head.block_crc32c,
        length=head.length,
        partition=work.layout.partition_of(head.key.block),
        layout_epoch=work.layout.epoch,
        owner=head.owner,
        pages=head.pages,
    )


def _row(row: StoredBlock, plan: _Plan, target: tuple[DeviceId, ...], epoch: LayoutEpoch) -> StoredBlock:
    return replace(
        row,
        layout_epoch=epoch,
        handoffs=tuple(
            Handoff(index=index, device=device)
            for index, device in enumerate(plan.final)
            if device is not None and device != target[index]
        ),
        missing=tuple(index for index, device in enumerate(plan.final) if device is None),
    )
