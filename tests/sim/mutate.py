"""Whether the simulator bites: plants each bug of `mutants/` in a copy of the tree and runs the common seeds on it.

`make mutants` prints the table, and fails when a mutant survives the budget of one `make sim`, its patch no longer
applies, or the tree without it fails by the same seed. No mutant has seeds of its own: all are given 1, 2, 3, ... as
everybody else's tree would be. `make mutants MUTANTS="no-fsync-of-the-log two-changes-in-flight"` takes only these.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANTS = Path(__file__).with_name("mutants")
COPIED = ("dwd", "tests")
BUDGET_SECONDS = 300.0
"""Of one core: what `make sim` takes."""
CONTEXT_LINES = 1
"""That have to match around a change: others may edit nearby."""
SLIPS = ("NameError", "AttributeError", "ImportError", "TypeError", "SyntaxError")
"""What a patch that the code has outgrown leads to: that is found by any run, and says nothing of the checkers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    mutant: str
    checker: str
    """Empty: it survived, or its patch did not apply (`problem`)."""
    seed: int = 0
    sim_seconds: float = 0.0
    wall_seconds: float = 0.0
    problem: str = ""
    message: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--budget", type=float, default=BUDGET_SECONDS, help="seconds of one core for each")
    parser.add_argument("--check", action="store_true", help="only whether the patches apply")
    parser.add_argument("--verbose", action="store_true", help="what each was caught by")
    arguments = parser.parse_args()
    known = {patch.stem: patch for patch in sorted(MUTANTS.glob("*.patch"))}
    unknown = sorted(set(arguments.names) - known.keys())
    if unknown:
        parser.error(f"no mutant {', '.join(unknown)}; there are {', '.join(known)}")
    patches = [patch for name, patch in known.items() if not arguments.names or name in arguments.names]
    print(f"{'mutant':<44} {'caught by':<22} {'seed':>5} {'simulated':>10} {'wall':>8}")
    verdicts = []
    for patch in patches:
        verdict = judge(patch, arguments.budget, run=not arguments.check)
        verdicts.append(verdict)
        if verdict.problem:
            print(f"{verdict.mutant:<44} {verdict.problem}", flush=True)
        else:
            print(
                f"{verdict.mutant:<44} {verdict.checker:<22} {verdict.seed:>5} {verdict.sim_seconds:>9.1f}s"
                f" {verdict.wall_seconds:>7.1f}s",
                flush=True,
            )
        if arguments.verbose and verdict.message:
            print(f"    {verdict.message[:300]}")
    bad = [verdict for verdict in verdicts if verdict.problem]
    print(f"{len(verdicts) - len(bad)} of {len(verdicts)} {'apply' if arguments.check else 'caught'}")
    return 1 if bad else 0


def judge(patch: Path, budget: float, *, run: bool = True) -> Verdict:
    """Plant one bug and look for it."""
    base = Path("/dev/shm")
    copy = Path(tempfile.mkdtemp(prefix="dwd-mutant-", dir=base if base.is_dir() else None))
    try:
        for name in COPIED:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.patch"))
        applied = subprocess.run(
            ["git", "apply", f"-C{CONTEXT_LINES}", "--recount", str(patch)],
            cwd=copy, capture_output=True, text=True, check=False, env={**os.environ, "GIT_CEILING_DIRECTORIES": "/"},
        )  # fmt: skip
        if applied.returncode:
            return Verdict(mutant=patch.stem, checker="", problem=f"DOES NOT APPLY: {applied.stderr.strip()[:200]}")
        return _hunt(patch.stem, copy, budget) if run else Verdict(mutant=patch.stem, checker="-")
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _hunt(name: str, copy: Path, budget: float) -> Verdict:
    """A seed that finds it. What it finds must be the bug's doing: the same seed has to hold without it."""
    began = time.monotonic()
    found, told = _run(copy, "--common", "--stop", "--budget", str(budget))
    wall = time.monotonic() - began
    if found is None:
        return Verdict(mutant=name, checker="", problem=f"DOES NOT RUN: {told}")
    message = str(found["message"])
    if not found["checker"]:
        return Verdict(mutant=name, checker="", problem=f"SURVIVED {found['seeds']} seeds")
    if any(slip in message for slip in SLIPS):
        return Verdict(mutant=name, checker="", problem=f"IS NO BUG BUT A SLIP: {message[:200]}")
    without, told = _run(ROOT, "--seed", str(found["seed"]))
    if without is None or without["checker"]:
        told = told if without is None else f"{without['checker']}: {without['message']}"
        return Verdict(mutant=name, checker="", problem=f"SEED {found['seed']} FAILS WITHOUT IT TOO: {told[:200]}")
    return Verdict(
        mutant=name, checker=str(found["checker"]), seed=int(found["seed"]), sim_seconds=float(found["sim_seconds"]),
        wall_seconds=wall, message=message,
    )  # fmt: skip


def _run(tree: Path, *options: str) -> tuple[dict[str, Any] | None, str]:
    """What the simulator of `tree` found, as `--json` tells it; None if it said nothing, and then its last words."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim.run", "--json", *options],
        cwd=tree, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(tree)},
    )  # fmt: skip
    try:
        return json.loads(done.stdout.splitlines()[-1]), ""
    except (IndexError, ValueError):
        return None, done.stderr.strip()[-300:]


if __name__ == "__main__":
    sys.exit(main())
