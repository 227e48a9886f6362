"""When a planted bug counts as found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sim import mutate

HOLDS = {"checker": "", "message": "", "seed": 0, "seeds": 9, "sim_seconds": 270.0}
FOUND = {"checker": "durability", "message": "a vote left early", "seed": 3, "seeds": 3, "sim_seconds": 61.0}


def hunted(monkeypatch: pytest.MonkeyPatch, planted: dict[str, Any] | None, clean: dict[str, Any] | None) -> Any:
    def run(tree: Path, *_options: str) -> tuple[dict[str, Any] | None, str]:
        found = clean if tree == mutate.ROOT else planted
        return found, "" if found else "Traceback"

    monkeypatch.setattr(mutate, "_run", run)
    return mutate._hunt("m", Path("/copy"), 1.0)


def test_bug_is_found_when_its_seed_holds_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = hunted(monkeypatch, FOUND, HOLDS)
    assert (verdict.checker, verdict.seed, verdict.problem) == ("durability", 3, "")


@pytest.mark.parametrize(
    ("planted", "clean", "problem"),
    [
        (HOLDS, HOLDS, "SURVIVED 9 seeds"),
        (FOUND, FOUND, "SEED 3 FAILS WITHOUT IT TOO"),
        (FOUND, None, "SEED 3 FAILS WITHOUT IT TOO"),
        (None, HOLDS, "DOES NOT RUN: Traceback"),
        ({**FOUND, "message": "unexpected NameError('asyncio')"}, HOLDS, "IS NO BUG BUT A SLIP"),
    ],
)
def test_bug_is_not_found_when_something_else_explains_it(
    monkeypatch: pytest.MonkeyPatch, planted: dict[str, Any] | None, clean: dict[str, Any] | None, problem: str
) -> None:
    verdict = hunted(monkeypatch, planted, clean)
    assert not verdict.checker
    assert verdict.problem.startswith(problem)


def test_patches_apply_to_the_tree_of_today() -> None:
    for patch in sorted(mutate.MUTANTS.glob("*.patch")):
        assert not mutate.judge(patch, 0.0, run=False).problem, patch.stem
