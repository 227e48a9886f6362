"""Whatever happens at whatever moment, no fragment that a row names is deleted, and in the end all is redundant."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dwd.base.ids import Stamp
from dwd.blocks.fragments import CopyKey
from dwd.blocks.orphans import OrphanWorker
from dwd.blocks.reading import locations
from dwd.blocks.repair import Repairer
from dwd.blocks.topology import DeviceHealth
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.meta.core.shard.commands import UpdateBlock
from dwd.meta.core.shard.queries import GcPage
from tests.property.blocks.heal_world import GRACE, KEYS, LawBroken, World

SEEDS = int(os.environ.get("DWD_HEAL_SEEDS", "25"))
STEPS = 160
CHASES = 4
SWEPT_SHARE = 0.3


async def live(world: World, steps: int = STEPS) -> None:
    """Clients, faults and healing, in the order of the seed."""
    random = world.random
    for _ in range(steps):
        match random.choices(
            ("put", "delete", "repair", "collect", "sweep", "deliver", "kill", "layout", "down", "up", "rot", "time",
             "grace", "wipe"),
            (6, 3, 14, 4, 8, 60, 2, 2, 2, 4, 1, 4, 3, 1),
        )[0]:  # fmt: skip
            case "put":
                world.put(random.choice(KEYS))
            case "delete":
                world.delete(random.choice(KEYS))
            case "repair":
                world.repair()
            case "collect":
                world.collect()
            case "sweep":
                world.sweep()
            case "kill":
                world.kill()
            case "layout":
                change_weights(world)
            case "down":
                down(world)
            case "up":
                up(world)
            case "rot":
                rot(world)
            case "time":
                world.clock.advance(random.choice((1.0, 30.0, 700.0)))
            case "grace":
                world.clock.advance(GRACE * random.choice((0.2, 0.6, 1.01)))
            case "wipe":
                wipe(world)
            case _:
                for _ in range(random.randrange(1, 6)):
                    await world.deliver()
        await world.settle()


def change_weights(world: World) -> None:
    device = world.random.choice(sorted(world.shared.views))
    view = world.shared.views[device]
    if view.health is not DeviceHealth.LOST:
        writable = not view.writable if sum(v.placed for v in world.shared.views.values()) > 4 else True
        world.shared.views[device] = _with(view, weight=world.random.choice((5, 10, 20)), writable=writable)
        world.relayout()


def _with(view: Any, **changes: Any) -> Any:
    return replace(view, **changes)


def down(world: World) -> None:
    if sum(not shelf.up for shelf in world.shelves.values()) == 0:
        device = world.random.choice(sorted(d for d, v in world.shared.views.items() if v.health is DeviceHealth.UP))
        world.shelves[device].up = False
        if world.random.random() < 0.7:  # else nobody has noticed
            world.shared.set_health(device, DeviceHealth.DOWN, since_ms=world.clock.unix_ms())


def up(world: World) -> None:
    for device, shelf in world.shelves.items():
        if not shelf.up and world.shared.views[device].health is not DeviceHealth.LOST:
            shelf.up = True
            world.shared.set_health(device, DeviceHealth.UP)


def rot(world: World) -> None:
    """A fragment becomes unreadable: at most one of all, so that every block can be read."""
    if any(not copy.sound for shelf in world.shelves.values() for copy in shelf.held.values()) or world.destroyed:
        return
    device = world.random.choice(sorted(world.shelves))
    held = world.shelves[device].held
    if held:
        held[world.random.choice(sorted(held, key=lambda k: (k.block, k.index)))].sound = False


def wipe(world: World) -> None:
    """A device is lost for good while all else is well, and another one takes its place."""
    shelves, views = world.shelves, world.shared.views
    if not world.redundant() or any(not shelf.up for shelf in shelves.values()):
        return
    device = world.random.choice(sorted(d for d, v in views.items() if v.health is DeviceHealth.UP))
    world.destroyed.update((device, key) for key in shelves[device].held)
    shelves[device].held.clear()
    shelves[device].up = False
    world.shared.set_health(device, DeviceHealth.LOST, since_ms=world.clock.unix_ms())
    world.sweeps.append(world._sweep(world.add_device()))
    world.relayout()


async def chase(world: World) -> None:
    """Blocks old enough to be swept move, and devices are swept between the writing of copies and their naming."""
    up(world)
    for _ in range(CHASES):
        await world.drain()
        world.clock.advance(GRACE * 1.01)
        change_weights(world)
        for _ in range(2):
            world.repair()
        while world.wire.waiting or world.actors:
            unnamed = world.unnamed()
            if unnamed and world.random.random() < SWEPT_SHARE:
                world.sweep(world.random.choice(unnamed))
            await world.deliver()


async def converge(world: World) -> None:
    """Nothing else happens any more: healing alone."""
    up(world)
    for device, view in world.shared.views.items():
        if view.health is not DeviceHealth.LOST:
            world.shared.views[device] = _with(view, writable=True)
    world.relayout()
    await world.drain()
    for _ in range(6):
        for row in sorted(world.rows.values(), key=lambda r: r.block):
            world._start(world._repair(_told(world, row)))
            await world.drain()
        world.clock.advance(60.0)
        world.collect()
        await world.drain()
    for _ in range(3):
        for worker in world.sweeps:
            world._start(worker.work())
            await world.drain()
        world.clock.advance(GRACE * 1.01)


def _told(world: World, row: Any) -> Any:
    """As a scrub would: what is not sound is named missing first."""
    bad = [
        index
        for index, device in locations(world.topology(), row).items()
        if (copy := world.shelves[device].held.get(FragmentKey(row.block, index))) is None or not copy.sound
    ]
    if not bad:
        return row
    new = replace(
        row, missing=tuple(sorted({*row.missing, *bad})), handoffs=tuple(h for h in row.handoffs if h.index not in bad)
    )
    world.command(UpdateBlock(old=row, new=new))
    return new


async def run(path: Path, seed: int) -> None:
    world = World(path, seed)
    try:
        await live(world)
        await chase(world)
        await converge(world)
        assert world.redundant()
        assert not world.unnamed()
        assert not world.shard.ask(_gc_all()).rows
    finally:
        await world.close()


def _gc_all() -> Any:
    return GcPage(before=Stamp(1 << 62))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_no_named_fragment_is_deleted_and_all_heals_when_everything_interleaves(
    tmp_path: Path, seed: int
) -> None:
    await run(tmp_path, seed)


async def breaks(path: Path, seeds: int) -> bool:
    """Whether some seed finds the law broken."""
    for seed in range(seeds):
        (path / str(seed)).mkdir()
        try:
            await run(path / str(seed), seed)
        except LawBroken:
            return True
        except AssertionError:
            continue
    return False


def delete_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Repair removes the old copies before the row changed."""
    left = Repairer._left

    async def hasty(self: Repairer, *arguments: Any) -> Any:
        found = await left(self, *arguments)
        await self._forget(found)
        return found

    patch.setattr(Repairer, "_left", hasty)


def one_proof_is_enough(patch: pytest.MonkeyPatch) -> None:
    """The orphan sweep removes what was disowned once."""

    async def hasty(self: OrphanWorker, device: Any, disowned: Sequence[CopyKey], asked_at: float) -> None:
        await device.delete_copies(disowned)

    patch.setattr(OrphanWorker, "_remove", hasty)


@pytest.mark.campaign
@pytest.mark.parametrize("mutant", [delete_before_commit, one_proof_is_enough])
async def test_broken_rule_is_found_when_everything_interleaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutant(monkeypatch)
    assert await breaks(tmp_path, seeds=120)
