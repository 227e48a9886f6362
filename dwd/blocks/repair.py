"""Making one block whole again: look at the devices, rebuild what is missing, put it where it belongs, say so.

Idempotent and safe at any point: fragments are written before the row names them, the row changes by compare-and-swap,
and only then is what it no longer names deleted. Nothing else is ever deleted: somebody else may be about to name it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain

from dwd.base.blocks import Handoff, StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import Conflict, DwError, InvariantViolation, NotFound
from dwd.base.ids import BlockId, DeviceId, GroupId, LayoutEpoch
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.core.substitutes import substitute
from dwd.blocks.fragments import Fragments, HeldFragment, PutFragment
from dwd.blocks.gc import delete_all
from dwd.blocks.ports import Owner
from dwd.blocks.reading import BlockReader, locations
from dwd.blocks.recount import Recount
from dwd.blocks.reencode import Anew, Reencoder
from dwd.blocks.store import encode_block
from dwd.blocks.topology import DeviceHealth, DeviceView, Topology
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.writing import Encoded
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.rows import OwnedBlock

DEAD_AFTER_MS = 600_000

Holdings = Mapping[DeviceId, Mapping[tuple[BlockId, int], HeldFragment] | None]


class Outcome(Enum):
    WHOLE = "whole"
    """Every fragment is where it belongs."""
    BETTER = "better"
    """Something was done, something is still on loan or away."""
    WAITING = "waiting"
    """Nothing can be done before devices come back or the layout changes."""
    GONE = "gone"
    """The block was deleted or changed meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """`final[i]`: where fragment i will be, None: nowhere. `make`: those to be written there."""

    final: tuple[DeviceId | None, ...]
    make: tuple[int, ...]


@dataclass(slots=True)
class _Making:
    """What was written so far of one block, and which devices would not take it: each is asked once."""

    fragments: Fragments
    epoch: LayoutEpoch
    deadline: float
    encoded: Encoded | None = None
    made: set[tuple[DeviceId, int]] = field(default_factory=set)
    refused: set[DeviceId] = field(default_factory=set)
    errors: list[DwError] = field(default_factory=list)

    async def put(self, plan: _Plan) -> None:
        """Write what the plan wants made and is not yet."""
        if self.encoded is None:
            raise InvariantViolation("fragments are made of a block that was not read")
        async with asyncio.TaskGroup() as group:
            for device, index in self.wanted(plan):
                _ = group.create_task(self._put(self.encoded, index, device))

    def wanted(self, plan: _Plan) -> list[tuple[DeviceId, int]]:
        """What the plan makes and is not made yet."""
        places = [(plan.final[index], index) for index in plan.make]
        return [(d, i) for d, i in places if d is not None and (d, i) not in self.made]

    async def _put(self, encoded: Encoded, index: int, device: DeviceId) -> None:
        fragment = PutFragment(
            device=device,
            key=FragmentKey(encoded.block, index),
            layout_epoch=self.epoch,
            head=encoded.heads[index],
            content=encoded.contents[index],
            repair=True,
        )
        try:
            await self.fragments.put(fragment, deadline=self.deadline)
        except DwError as error:
            self.refused.add(device)
            self.errors.append(error)
        else:
            self.made.add((device, index))


class Repairer:
    def __init__(
        self,
        *,
        topology: Topology,
        fragments: Fragments,
        reader: BlockReader,
        anew: Reencoder,
        catalogue: BlockCatalogue,
        clock: Clock,
        dead_after_ms: int = DEAD_AFTER_MS,
    ) -> None:
        self._topology, self._fragments, self._reader = topology, fragments, reader
        self._catalogue, self._clock, self._dead_after_ms = catalogue, clock, dead_after_ms
        self._anew = anew
        self._recount = Recount(topology=topology, fragments=fragments, clock=clock)

    def dead(self) -> frozenset[DeviceId]:
        """Devices whose fragments are rebuilt elsewhere: lost, or down for too long."""
        now = self._clock.unix_ms()
        return frozenset(d.device for d in self._topology.devices().values() if self._is_dead(d, now))

    async def repair(self, group: GroupId, owned: OwnedBlock, *, deadline: float) -> Outcome:
        """Raises Unavailable, Corrupt (cannot be read now), Busy, NoSpace, StorageFailed."""
        upgraded = await self._anew.upgrade(self._catalogue, group, owned, deadline=deadline)
        if upgraded is not None:
            return Outcome.WHOLE if upgraded is Anew.STORED else Outcome.GONE
        row, layout = owned.stored, self._topology.layout()
        places = locations(self._topology, row)
        target = layout.places(row.block, parse_scheme(row.profile).fragments)
        asked = dict.fromkeys(chain(places.values(), target), (row.block,))
        held = await self._recount.ask(asked, verify=True, deadline=deadline)
        making = _Making(self._fragments, layout.epoch, deadline)
        plan = self._plan(row, places, target, held, making)
        while making.wanted(plan):
            if making.encoded is None:
                making.encoded = await self._encoded(owned, layout, deadline)
            await making.put(plan)
            plan = self._plan(row, places, target, held, making)
        new = _row(row, plan, target, layout.epoch)
        if new == row:
            if making.errors and not making.made:
                raise making.errors[0]
            if not new.not_as_wanted:
                return Outcome.WHOLE
            return Outcome.BETTER if plan.make else Outcome.WAITING
        try:
            await self._catalogue.update_block(group, row, new, deadline=deadline)
        except NotFound:
            await self._forget(making.made, row)
            return Outcome.GONE
        except Conflict:
            return Outcome.GONE  # somebody else repaired it: what we wrote may be what the new row names
        given_up = {
            (device, index)
            for index, device in places.items()
            if plan.final[index] not in {None, device} and held.get(device) is not None
        }
        await self._forget(given_up, row)
        return Outcome.BETTER if new.not_as_wanted else Outcome.WHOLE

    def _plan(
        self,
        row: StoredBlock,
        places: Mapping[int, DeviceId],
        target: tuple[DeviceId, ...],
        held: Holdings,
        making: _Making,
    ) -> _Plan:
        dead = self.dead()
        final: list[DeviceId | None] = []
        make: list[int] = []
        for index, wanted in enumerate(target):
            now = places.get(index)
            if self._takes(wanted, making):
                final.append(wanted)
                if not _sound(held, wanted, row.block, index):
                    make.append(index)
            elif now is not None and (
                _sound(held, now, row.block, index) or (held.get(now) is None and now not in dead)
            ):
                final.append(now)
            else:
                final.append(None)
        self._lend(row, final, make, making)
        return _Plan(final=tuple(final), make=tuple(make))

    def _takes(self, device: DeviceId, making: _Making) -> bool:
        view = self._topology.devices().get(device)
        return view is not None and view.writable and self._reader.answers(device) and device not in making.refused

    def _lend(self, row: StoredBlock, final: list[DeviceId | None], make: list[int], making: _Making) -> None:
        """Find places for fragments that are nowhere and whose own device cannot take them."""
        devices = self._topology.devices()
        layout = self._topology.layout()
        order = dict.fromkeys(chain(layout.device_list(layout.partition_of(row.block)), sorted(devices)))
        nodes = {device: view.node for device, view in devices.items()}
        for index, place in enumerate(final):
            if place is None:
                taken = [device if device is not None else DeviceId(-1) for device in final]
                found = substitute(index, taken, order, nodes, lambda device: self._takes(device, making))
                if found is not None:
                    final[index] = found
                    make.append(index)

    async def _encoded(self, owned: OwnedBlock, layout: Layout, deadline: float) -> Encoded:
        row, owner = owned.stored, Owner(bucket=owned.bucket, key=owned.key)
        views = await self._reader.read(row, owner=owner, offset=0, length=row.length, deadline=deadline)
        return encode_block(row.block, parse_scheme(row.profile), b"".join(views), layout, owner)

    async def _forget(self, fragments: Collection[tuple[DeviceId, int]], row: StoredBlock) -> None:
        """Best effort: what stays is an orphan of a device that did not answer."""
        for device, index in fragments:
            _ = await delete_all(self._fragments, self._clock, device, (FragmentKey(row.block, index),))

    def _is_dead(self, device: DeviceView, now_ms: int) -> bool:
        if device.health is DeviceHealth.LOST:
            return True
        return device.health is DeviceHealth.DOWN and now_ms - device.down_since_ms >= self._dead_after_ms


def _sound(held: Holdings, device: DeviceId, block: BlockId, index: int) -> bool:
    answer = held.get(device)
    found = answer.get((block, index)) if answer is not None else None
    return found is not None and found.sound is True


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
