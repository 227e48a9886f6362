"""Runs worlds of seeds: `make sim`, or `python -m tests.sim.run --seed N` for one of them again.

Without options: all regressions, then fresh seeds for `--minutes`. A seed that fails is printed with the one command
that replays it exactly; add it to regressions.txt with a word about what it found.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from tests.sim.world import Outcome

REGRESSIONS = Path(__file__).with_name("regressions.txt")
HASH_SEED = "0"
"""Sets of strings are walked in the same order in every run."""
FRESH_BITS = 40


def main() -> int:
    arguments = _arguments()
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim.run", *sys.argv[1:]])
    level = logging.INFO if arguments.verbose else logging.CRITICAL + 1
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(min(level, logging.CRITICAL)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr if arguments.verbose else Path(os.devnull).open("w")),  # noqa: SIM115
        processors=[_stamp, structlog.dev.ConsoleRenderer(colors=False)],
        cache_logger_on_first_use=True,
    )
    return _campaign(arguments)


def _campaign(arguments: argparse.Namespace) -> int:
    from tests.sim.plan import plan_of
    from tests.sim.world import run

    began, done, failed = time.monotonic(), 0, list[int]()
    first: Outcome | None = None
    total, sim_seconds, cpu_seconds = Counter[str](), 0.0, 0.0
    for seed in _seeds(arguments, began):
        outcome = run(plan_of(seed, seconds=arguments.seconds))
        done += 1
        total += outcome.counts
        sim_seconds += outcome.sim_seconds
        cpu_seconds += outcome.counts["cpu_ms"] / 1000
        if outcome.violations:
            failed.append(seed)
            first = first or outcome
            print(f"seed {seed} FAILED after {outcome.sim_seconds:.1f} simulated seconds")
            for violation in outcome.violations[:4]:
                print(f"  {violation.checker} at {violation.seconds:.3f} s: {violation.message[:3000]}")
            print(f"  again: {_command(seed, arguments)}", flush=True)
        elif arguments.seed or arguments.verbose:
            print(
                f"seed {seed} holds, {outcome.sim_seconds:.1f} s simulated, digest {outcome.digest & (1 << 64) - 1:x}"
            )
        if failed and arguments.stop:
            break
    if arguments.json:
        _print_json(first, done, sim_seconds)
        return 1 if failed else 0
    faults = {name[6:]: count for name, count in sorted(total.items()) if name.startswith("fault ")}
    print(
        f"{done} seeds, {len(failed)} failed; {sim_seconds:.0f} s simulated in {cpu_seconds:.0f} s of one core"
        f" = {sim_seconds / max(cpu_seconds, 1e-9):.1f} to 1;"
        f" {total['operations'] / max(sim_seconds, 1e-9):.0f} operations and"
        f" {total['faults'] / max(sim_seconds, 1e-9):.2f} faults a simulated second"
    )
    print(f"faults: {faults}; unknown outcomes: {total['unknown']}; replicas lost: {total['lost']}")
    return 1 if failed else 0


def _print_json(outcome: Outcome | None, seeds: int, sim_seconds: float) -> None:
    found = outcome.violations[0] if outcome is not None else None
    print(
        json.dumps(
            {
                "checker": found.checker if found is not None else "",
                "message": found.message if found is not None else "",
                "seed": outcome.seed if outcome is not None else 0,
                "seeds": seeds,
                "sim_seconds": sim_seconds,
            }
        )
    )


def _seeds(arguments: argparse.Namespace, began: float) -> Iterator[int]:
    if arguments.seed:
        yield from arguments.seed
        return
    if arguments.common:
        used, seed = time.process_time(), arguments.first
        while time.process_time() - used < arguments.budget:
            yield seed
            seed += 1
        return
    yield from regressions()
    if arguments.seeds:
        yield from range(arguments.first, arguments.first + arguments.seeds)
        return
    while time.monotonic() - began < arguments.minutes * 60:
        yield secrets.randbits(FRESH_BITS)


def regressions(lines: Iterable[str] | None = None) -> list[int]:
    """Seeds that found something once."""
    text = REGRESSIONS.read_text().splitlines() if lines is None else lines
    return [int(line.split("#")[0]) for line in text if line.split("#")[0].strip()]


def _command(seed: int, arguments: argparse.Namespace) -> str:
    more = "" if arguments.seconds == _default_seconds() else f" --seconds {arguments.seconds:g}"
    return f".venv/bin/python -m tests.sim.run --seed {seed}{more}"


def _default_seconds() -> float:
    from tests.sim.plan import SECONDS

    return SECONDS


def _stamp(_logger: object, _name: str, event: dict[str, object]) -> dict[str, object]:
    """The simulated time, and whose line it is."""
    import asyncio

    from tests.twins.virtual_time import LIFE

    life = LIFE.get()
    loop = asyncio.get_event_loop_policy().get_event_loop()
    return {"at": f"{loop.time():.4f}", "node": getattr(life, "name", ""), **event}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, action="append", help="only this one (may be repeated)")
    parser.add_argument("--seeds", type=int, default=0, help="so many in a row, from --first on, instead of minutes")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--common", action="store_true", help="1, 2, 3, ... without the regressions, up to --budget")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of one core for --common")
    parser.add_argument("--json", action="store_true", help="the first failure as JSON on the last line")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=_default_seconds(), help="of faults in each world")
    parser.add_argument("--stop", action="store_true", help="at the first failure")
    parser.add_argument("--verbose", action="store_true", help="the daemon's own log on standard error")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
