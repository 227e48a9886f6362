"""One run: clients and nemesis on a fresh cluster, then healing, final reads, and the verdict.

    make history MINUTES=10            a fresh seed, printed
    make history MINUTES=10 SEED=7     the same faults and operations again, though not the same interleaving

A run that fails keeps its history and the daemons' data, and says how to check the history again.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dwd.runtime.clock import SystemRng
from tests.history.clients import BUCKET, S3, Client, Keys
from tests.history.nemesis import Nemesis, heal
from tests.history.record import Fault, History, Operation, Outcome
from tests.history.verdict import Counts, Verdict, counts, judge
from tests.history.world import CLOCK, World

CLIENTS = 8
READY_SECONDS = 60.0
HEALED_SECONDS = 90.0
"""After the last fault ended every node must answer within this time."""
WATCH_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of it. `troubles`: what went wrong besides the history itself."""

    path: Path
    verdict: Verdict
    counts: Counts
    troubles: tuple[str, ...]

    @property
    def good(self) -> bool:
        return self.verdict.good and not self.troubles

    def __str__(self) -> str:
        lines = [str(self.counts), *self.troubles, str(self.verdict)]
        if not self.good:
            lines.append(f"check it again: python -m tests.history.check {self.path}")
        return "\n".join(lines)


def run(
    root: Path,
    *,
    seed: int,
    seconds: float,
    nodes: int,
    power: bool = False,
    only: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Run:
    """In `root`, which stays; the daemons are stopped."""
    world = World(root, nodes=nodes, recording=power, disks=True)
    good = False
    try:
        world.up()
        say(f"{nodes} nodes run in {world.folder.root}")
        done = run_on(world, root / "history.jsonl", seed=seed, seconds=seconds, power=power, only=only, say=say)
        good = done.good
    finally:
        world.down(keep=not good)
    return done


def run_on(
    world: World,
    path: Path,
    *,
    seed: int,
    seconds: float,
    power: bool = False,
    only: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Run:
    """On a cluster that is up, and is left so. The history is written to `path`."""
    with path.open("w") as writer:
        history = History(seed=seed, minutes=seconds / 60, writer=writer)
        history.begin()
        troubles = asyncio.run(
            _play(
                world, history, seconds, lambda began: Nemesis(world, history, seed, began, power=power, only=only), say
            )
        )
    world.read_logs()
    troubles += [f"a daemon raised an alarm: {line}" for line in world.alarms[:5]]
    return Run(path=path, verdict=judge(history), counts=counts(history), troubles=tuple(troubles))


async def _play(
    world: World, history: History, seconds: float, make: Callable[[float], Nemesis], say: Callable[[str], None]
) -> list[str]:
    """`make` the nemesis, given when it all began."""
    troubles: list[str] = []
    s3 = S3(world.s3, {name: world.endpoint(name) for name in world.names})
    keys, began = Keys(), CLOCK.monotonic()
    ends = began + seconds

    def stopping() -> bool:
        return CLOCK.monotonic() >= ends or bool(troubles)

    try:
        await _make_bucket(s3, world)
        clients = [Client(number, history.seed, s3, keys, history, began) for number in range(CLIENTS)]
        nemesis = make(began)
        try:
            async with asyncio.TaskGroup() as together:
                for client in clients:
                    _ = together.create_task(client.run(stopping))
                _ = together.create_task(nemesis.run(stopping))
                _ = together.create_task(_watch(world, history, began, stopping, troubles, say))
        finally:
            await heal(world)
        history.note(Fault(at=CLOCK.monotonic() - began, what="end of all", on=()))
        troubles += await _settle(world, clients[0], keys)
    finally:
        await s3.close()
    return troubles


async def _make_bucket(s3: S3, world: World) -> None:
    until = CLOCK.monotonic() + READY_SECONDS
    while True:
        answer = await s3.ask(world.names[0], "PUT", f"/{BUCKET}")
        if answer.status == 200:
            return
        if CLOCK.monotonic() > until:
            raise AssertionError(f"no bucket can be made: {answer}")
        await asyncio.sleep(0.2)


async def _watch(
    world: World,
    history: History,
    began: float,
    stopping: Callable[[], bool],
    troubles: list[str],
    say: Callable[[str], None],
) -> None:
    """No daemon ends by itself, and something is said each minute."""
    minute = 1
    while not stopping():
        await asyncio.sleep(WATCH_SECONDS)
        ended, at = await asyncio.to_thread(world.ended), CLOCK.monotonic() - began
        for name in ended:
            if await asyncio.to_thread(world.revive, name):
                history.note(Fault(at=at, what="start on a full disk", on=(name,)))
            else:
                troubles.append(f"{name} ended by itself at {at:.1f} s")
        if CLOCK.monotonic() - began >= 60 * minute:
            say(f"minute {minute}: {len(history.operations)} operations, {len(history.faults) // 2} faults")
            minute += 1


async def _settle(world: World, client: Client, keys: Keys) -> list[str]:
    """Every node answers again, and every key is read through one of them: what was acknowledged is there."""
    until = CLOCK.monotonic() + HEALED_SECONDS
    for name in world.names:
        if not await _patiently(lambda name=name: client.read("g000/k0", nodes=(name,)), until):  # type: ignore[misc]
            return [f"{name} does not answer {HEALED_SECONDS:.0f} s after the last fault"]
    for key in keys.all():
        if not await _patiently(lambda key=key: client.read(key), until):  # type: ignore[misc]
            return [f"{key} cannot be read after the last fault"]
    for prefix in keys.prefixes():
        if not await _patiently(lambda prefix=prefix: client.list(prefix), until):  # type: ignore[misc]
            return [f"{prefix} cannot be listed after the last fault"]
    return []


async def _patiently(attempt: Callable[[], object], until: float) -> bool:
    while True:
        operation = await attempt()  # type: ignore[misc]
        if isinstance(operation, Operation) and operation.outcome is Outcome.OK:
            return True
        if CLOCK.monotonic() > until:
            return False
        await asyncio.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Histories of real processes under faults")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--no-power", action="store_true", help="no power losses")
    parser.add_argument("--only", default="", help="these faults, divided by commas: isolate,pause past election")
    parser.add_argument("--dir", type=Path, default=None, help="kept; default: a temporary one, kept after a failure")
    asked = parser.parse_args(arguments)
    seed = asked.seed if asked.seed is not None else SystemRng().below(1_000_000)
    root = asked.dir or Path(tempfile.mkdtemp(prefix="dwd-history-"))
    root.mkdir(parents=True, exist_ok=True)
    _say(f"seed {seed}: make history MINUTES={asked.minutes:g} SEED={seed}")
    only = tuple(word.strip() for word in asked.only.split(",") if word.strip())
    power, seconds = not asked.no_power, 60 * asked.minutes
    done = run(root, seed=seed, seconds=seconds, nodes=asked.nodes, power=power, only=only, say=_say)
    _say(str(done))
    if done.good and asked.dir is None:
        shutil.rmtree(root, ignore_errors=True)
    return 0 if done.good else 1


def _say(text: str) -> None:
    _ = sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
