"""`python -m tests.history.check FILE`: judge a history that a run left behind."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.history.record import load
from tests.history.verdict import counts, judge


def main(arguments: list[str]) -> int:
    good = True
    for name in arguments:
        history = load(Path(name))
        verdict = judge(history)
        _ = sys.stdout.write(f"{name} (seed {history.seed})\n{counts(history)}\n{verdict}\n")
        good = good and verdict.good
    return 0 if good and arguments else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
