"""A short run on real daemons, always of the same seed; `make history MINUTES=10` runs long ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.history.run import run

pytestmark = pytest.mark.integration
SEED, SECONDS = 3, 10.0


def test_history_is_linearizable_when_processes_network_disks_and_clocks_fail(tmp_path: Path) -> None:
    done = run(tmp_path, seed=SEED, seconds=SECONDS, nodes=3)
    assert done.good, str(done)
    assert done.counts.outcomes["ok"] > 20, str(done)
    assert len(done.counts.faults) >= 3, str(done)
