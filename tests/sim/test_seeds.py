"""A handful of worlds in every test run; `make sim` runs many more. The same seed is the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.sim.plan import plan_of
from tests.sim.run import regressions
from tests.sim.world import run

SECONDS = 8.0


@pytest.mark.parametrize("seed", range(1, 7))
def test_promises_hold_when_a_whole_cluster_is_under_faults(seed: int) -> None:
    outcome = run(plan_of(seed, seconds=SECONDS))
    assert not outcome.violations, f"again: python -m tests.sim.run --seed {seed} --seconds {SECONDS:g}"
    assert outcome.counts["operations"] > 0
    assert outcome.counts["faults"] > 0


def test_run_is_the_same_when_the_seed_is_the_same() -> None:
    """In processes of their own: what differs between processes must not matter."""
    program = (
        "import json; from tests.sim.plan import plan_of; from tests.sim.world import run;"
        "o = run(plan_of(7, seconds=4)); print(json.dumps([o.digest, o.sim_seconds, o.counts['operations']]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    runs = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    first, second = (json.loads(run.stdout.splitlines()[-1]) for run in runs)
    assert first == second


def test_regressions_are_seeds_when_lines_have_comments() -> None:
    assert regressions(["# nothing", "12  # a bug", "", "7"]) == [12, 7]
