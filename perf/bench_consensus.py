"""Consensus beside others: durable commits and linearizable reads of three members, and what a dead leader costs.

Part of `make perf`. dwd, and where they are installed etcd and PySyncObj, run at the same time and are loaded in turn,
a few seconds each, several rounds: noise of a shared machine hits all of them, and ratios are of the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perf.consensus.dwd import Dwd
from perf.consensus.etcd import Etcd
from perf.consensus.figures import Failover, Figures
from perf.consensus.pysyncobj import PySyncObj
from perf.consensus.system import System

CONCURRENCIES = (1, 16, 64, 256)
VERBS = ("put", "get")
WIDTH_IN_FILES = 150
WARM_SECONDS = 1.0
PROBE_SECONDS = {"killed": 4.0, "paused": 6.0, "transferred": 4.0}
STRIKE_AFTER_SECONDS = 0.5


class Bench:
    def __init__(self, systems: list[System], figures: Figures, console: Console) -> None:
        self._systems, self._figures, self._console = systems, figures, console

    def rates(self, *, verbs: Iterable[str], concurrencies: Iterable[int], rounds: int, seconds: float) -> None:
        for system in self._systems:
            _ = system.leader()
            _ = system.ask(verb="put", concurrency=16, seconds=WARM_SECONDS)
        levels = tuple(concurrencies)
        for verb in verbs:
            for concurrency in levels:
                for _ in range(rounds):
                    for system in self._systems:
                        if verb == "put" or system.reads_linearizable:
                            self._slice(system, verb, concurrency, seconds)

    def _slice(self, system: System, verb: str, concurrency: int, seconds: float) -> None:
        before = system.cpu_seconds()
        answer = system.ask(verb=verb, concurrency=concurrency, seconds=seconds)
        cell = self._figures.cell(system.name, verb, concurrency)
        cell.add(answer, system.cpu_seconds() - before)
        for error in answer["first_errors"]:
            self._console.print(f"  {system.name}: {error}", style="red", highlight=False)

    def failovers(self, what: str, times: int) -> None:
        found: dict[str, list[float]] = {}
        for _ in range(times):
            for system in self._systems:
                if what == "transferred" and not system.can_transfer:
                    continue
                took = self._strike(system, what)
                if took is None:
                    self._console.print(f"  {system.name}: no write in {PROBE_SECONDS[what]:.0f} s", style="red")
                    took = PROBE_SECONDS[what]
                found.setdefault(system.name, []).append(took)
        for name, seconds in found.items():
            self._figures.failovers.append(Failover(system=name, what=f"leader {what}", seconds=tuple(seconds)))

    def _strike(self, system: System, what: str) -> float | None:
        """Seconds until the first write begun afterwards succeeded; of a transfer the longest time without one."""
        leader = system.leader()
        system.order(verb="probe", seconds=STRIKE_AFTER_SECONDS + PROBE_SECONDS[what])
        time.sleep(STRIKE_AFTER_SECONDS)
        struck = time.monotonic()
        match what:
            case "killed":
                system.kill(leader)
            case "paused":
                system.pause(leader)
            case _:
                system.transfer()
        done = system.answer()["begun_ended"]
        if what == "killed":
            system.restart(leader)
        elif what == "paused":
            system.resume(leader)
        _ = system.leader()
        self._settle(system)
        if what == "transferred":
            ends = sorted(ended for _, ended in done if ended > struck)
            return max(after - before for before, after in pairwise(ends)) if len(ends) > 1 else None
        ends = [ended for begun, ended in done if begun > struck]
        return min(ends) - struck if ends else None

    def _settle(self, system: System) -> None:
        """Until the member that was away takes part again: it must be the next one's quorum."""
        time.sleep(3.0)
        for _ in range(3):
            _ = system.ask(verb="put", concurrency=4, seconds=0.3)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about two minutes, a few failovers")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--only", nargs="+", choices=("dwd", "etcd", "PySyncObj"), help="these systems alone")
    parser.add_argument("--concurrencies", type=int, nargs="+", default=CONCURRENCIES)
    parser.add_argument("--verbs", nargs="*", choices=VERBS, default=VERBS)
    parser.add_argument("--rounds", type=int, default=0, help="turns of each system at each concurrency")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one turn")
    parser.add_argument("--kills", type=int, default=-1, help="leaders killed, of each system")
    parser.add_argument("--pauses", type=int, default=-1, help="leaders paused, of each system")
    parser.add_argument("--transfers", type=int, default=-1, help="leaderships handed over")
    parser.add_argument("--against", type=Path, help="another tree of this project, measured as one more system")
    parser.add_argument("--pysyncobj", type=Path, help="a virtual environment that has it; default: make one")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    rounds = options.rounds or (2 if options.quick else 5)
    kills = options.kills if options.kills >= 0 else (3 if options.quick else 20)
    pauses = options.pauses if options.pauses >= 0 else (1 if options.quick else 5)
    transfers = options.transfers if options.transfers >= 0 else (3 if options.quick else 10)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_IN_FILES)
    figures = Figures()
    folder = Path(tempfile.mkdtemp(prefix="dwd-consensus-"))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        systems = _systems(folder, options.only, options.pysyncobj, figures)
        if options.against:
            systems.insert(1, Dwd(folder / "against", options.against.resolve()))
        for system in systems:
            ending.callback(system.stop)
            system.start()
            ending.callback(system.disconnect)
            system.connect()
        bench = Bench(systems, figures, console)
        bench.rates(verbs=options.verbs, concurrencies=options.concurrencies, rounds=rounds, seconds=options.seconds)
        for what, times in (("killed", kills), ("paused", pauses), ("transferred", transfers)):
            if times:
                bench.failovers(what, times)
        figures.show(console)
        if options.json:
            figures.write(options.json)
    sys.exit(1 if any(cell.errors for cell in figures.cells if cell.system == "dwd") else 0)


def _systems(folder: Path, only: list[str] | None, environment: Path | None, figures: Figures) -> list[System]:
    chosen = set(only or ("dwd", "etcd", "PySyncObj"))
    systems: list[System] = [Dwd(folder / "dwd")] if "dwd" in chosen else []
    if "etcd" in chosen:
        if Etcd.installed():
            systems.append(Etcd(folder / "etcd"))
        else:
            figures.notes.append("etcd is not installed (on Debian: apt-get install etcd-server)")
    if "PySyncObj" in chosen:
        place = environment or folder / "pysyncobj-venv"
        if PySyncObj.prepare(place):
            systems.append(PySyncObj(folder / "pysyncobj", place))
        else:
            figures.notes.append("PySyncObj could not be installed")
    figures.notes += [system.note for system in systems]
    return systems


if __name__ == "__main__":
    main()
