"""Does harm from a seed: a sequence of faults, each on some nodes for some time, two kinds side by side.

One track hurts processes and disks, the other the network and clocks, so that a leader may be paused inside a partition
or killed while its clock is wrong. What a track did it undoes before its next fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import permutations

from tests.history.record import Fault, History, is_acknowledged
from tests.history.world import CLOCK, World
from tests.raft_harness.seeded import SeededRng

CALM_SECONDS = (0.3, 2.5)
"""Between two faults of a track, counted from when the cluster did something again."""
RECOVERY_SECONDS = 30.0
"""So long a fault waits for that: on a slow machine faults are fewer, not done to a cluster that is down anyway."""
DAY_MS = 86_400_000
SKEWS_MS = (-DAY_MS, -3_600_000, -7_000, -900, 400, 900, 7_000, 3_600_000, DAY_MS)

Link = tuple[str, str]


class Nemesis:
    """`run` until told to stop; it heals what it did before it returns."""

    def __init__(
        self, world: World, history: History, seed: int, began: float, *, power: bool, only: Sequence[str] = ()
    ) -> None:
        """`only` these faults, if there are any."""
        self._world = world
        self._history = history
        self._began = began
        self._rngs = (SeededRng(seed * 7 + 1), SeededRng(seed * 7 + 2))
        self._process_faults: tuple[tuple[int, str], ...] = (
            (5, "kill"), (3, "pause"), (4, "pause past election"), (2, "stop"), (2, "fill disk"), (1, "kill all"),
            *(((3, "power loss"), (1, "power loss of all")) if power else ()),
        )  # fmt: skip
        self._network_faults: tuple[tuple[int, str], ...] = (
            (5, "isolate"), (3, "isolate one way out"), (3, "isolate one way in"), (3, "partition"), (2, "cut a link"),
            (2, "bridge"), (2, "slow"), (4, "skew clocks"),
        )  # fmt: skip
        if only:
            self._process_faults = tuple(fault for fault in self._process_faults if fault[1] in only)
            self._network_faults = tuple(fault for fault in self._network_faults if fault[1] in only)

    async def run(self, stopping: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as tracks:
            if self._process_faults:
                _ = tracks.create_task(self._hurt_processes(stopping, self._rngs[0]))
            if self._network_faults:
                _ = tracks.create_task(self._hurt_network(stopping, self._rngs[1]))

    # -- processes and disks ------------------------------------------------------------------------------------

    async def _hurt_processes(self, stopping: Callable[[], bool], rng: SeededRng) -> None:
        world = self._world
        await _hold(rng, *CALM_SECONDS, stopping)
        while not stopping():
            what = _draw(rng, self._process_faults)
            victims = await self._victims(rng, everybody=what.endswith(" all"))
            self._note(what, victims)
            match what:
                case "kill" | "kill all":
                    await asyncio.to_thread(world.kill, *victims)
                    await _hold(rng, 0.2, 5.0, stopping)
                    await asyncio.to_thread(world.start, *victims)
                case "pause" | "pause past election":
                    await asyncio.to_thread(world.pause, *victims)
                    longest = 0.8 if what == "pause" else 6.0
                    await _hold(rng, longest / 4, longest, stopping)
                    await asyncio.to_thread(world.resume, *victims)
                case "stop":
                    await asyncio.to_thread(world.stop, *victims)
                    await asyncio.to_thread(world.start, *victims)
                case "fill disk":
                    await asyncio.to_thread(world.fill, victims)
                    await _hold(rng, 1.0, 6.0, stopping)
                    await asyncio.to_thread(world.fill, ())
                case "power loss" | "power loss of all":
                    await asyncio.to_thread(world.cut_power, victims, rng)
                    await _hold(rng, 0.2, 2.0, stopping)
                    await asyncio.to_thread(world.start, *victims)
            self._note(f"end {what}", victims)
            await self._calm(rng, stopping)

    # -- network and clocks -------------------------------------------------------------------------------------

    async def _hurt_network(self, stopping: Callable[[], bool], rng: SeededRng) -> None:
        world = self._world
        await _hold(rng, *CALM_SECONDS, stopping)
        while not stopping():
            what = _draw(rng, self._network_faults)
            victims = await self._victims(rng)
            self._note(what, victims)
            match what:
                case "skew clocks":
                    await asyncio.to_thread(world.set_clocks, {name: rng.choose(SKEWS_MS) for name in victims})
                case "slow":
                    await asyncio.to_thread(world.delay, _around(victims, world.names), rng.uniform(5, 80))
                case _:
                    await asyncio.to_thread(world.cut, _links(what, victims, world.names, rng))
            await _hold(rng, 0.5, 7.0, stopping)
            await asyncio.to_thread(self._heal_network)
            self._note(f"end {what}", victims)
            await self._calm(rng, stopping)

    async def _calm(self, rng: SeededRng, stopping: Callable[[], bool]) -> None:
        """Until a change that began after now was acknowledged, and a while longer."""
        now, seen = CLOCK.monotonic() - self._began, len(self._history.operations)
        until = CLOCK.monotonic() + RECOVERY_SECONDS
        while not stopping() and CLOCK.monotonic() < until:
            if any(is_acknowledged(one) and one.start > now for one in self._history.operations[seen:]):
                break
            await asyncio.sleep(0.1)
        await _hold(rng, *CALM_SECONDS, stopping)

    def _heal_network(self) -> None:
        self._world.cut(())
        self._world.delay((), 0)
        self._world.set_clocks({})

    async def _victims(self, rng: SeededRng, *, everybody: bool = False) -> tuple[str, ...]:
        """A minority, mostly with the leader in it; now and then half or more."""
        names = self._world.names
        if everybody:
            return tuple(names)
        minority = (len(names) - 1) // 2
        count = 1 + rng.below(minority) if rng.below(8) else minority + 1
        drawn = sorted(names, key=lambda _: rng.bits(30))
        leader = await asyncio.to_thread(self._world.leader) if rng.below(3) else None
        if leader is not None:
            drawn = [leader, *(name for name in drawn if name != leader)]
        return tuple(drawn[:count])

    def _note(self, what: str, on: Sequence[str]) -> None:
        self._history.note(Fault(at=CLOCK.monotonic() - self._began, what=what, on=tuple(on)))


async def heal(world: World) -> None:
    """Undo all that may be left, whatever broke off in between."""
    world.cut(())
    world.delay((), 0)
    world.set_clocks({})
    world.fill(())
    for name in world.names:
        await asyncio.to_thread(world.resume, name)
        if name in world.down_on_purpose:
            await asyncio.to_thread(world.start, name)


def _around(victims: Sequence[str], names: Sequence[str]) -> Iterable[Link]:
    """Both ways between the victims and the rest."""
    return [(a, b) for a, b in permutations(names, 2) if (a in victims) != (b in victims)]


def _links(what: str, victims: Sequence[str], names: Sequence[str], rng: SeededRng) -> Iterable[Link]:
    """Which ways are cut."""
    first = victims[0]
    match what:
        case "isolate":
            return _around((first,), names)
        case "isolate one way out":
            return [(first, other) for other in names if other != first]
        case "isolate one way in":
            return [(other, first) for other in names if other != first]
        case "partition":
            return _around(victims, names)
        case "cut a link":
            other = rng.choose([name for name in names if name != first])
            return [(first, other), (other, first)] if rng.below(2) else [(first, other)]
        case "bridge":
            # Two halves that only one node sees both of.
            rest = [name for name in names if name != first]
            half = set(rest[: len(rest) // 2])
            return [(a, b) for a, b in permutations(rest, 2) if (a in half) != (b in half)]
        case _:
            raise ValueError(what)


def _draw(rng: SeededRng, faults: Sequence[tuple[int, str]]) -> str:
    """By weight."""
    at = rng.below(sum(weight for weight, _ in faults))
    for weight, what in faults:
        at -= weight
        if at < 0:
            return what
    raise ValueError("no fault")


async def _hold(rng: SeededRng, low: float, high: float, stopping: Callable[[], bool]) -> None:
    """Wait for a time from the seed, or until the run ends."""
    until = CLOCK.monotonic() + rng.uniform(low, high)
    while CLOCK.monotonic() < until and not stopping():  # noqa: ASYNC110 - time is what is waited for
        await asyncio.sleep(0.05)
