"""Power loss of all nodes at once, on real daemons (raft.md section 7). More: `make power-loss ROUNDS=50 SEED=7`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.power_loss.campaign import Campaign
from tests.power_loss.machine import Loss

pytestmark = pytest.mark.integration


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Half a gigabyte of preallocated segments is not kept."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_nothing_acknowledged_is_lost_when_all_nodes_lose_power_at_once(root: Path) -> None:
    with Campaign(root, nodes=3, profile="replica-3", seed=1) as campaign:
        campaign.run(4)
    assert campaign.ledger.acknowledged > 0


@pytest.mark.parametrize("lying", ["log", "devices"])
def test_a_loss_is_found_when_syncs_do_nothing(root: Path, lying: str) -> None:
    """The same rounds on a build whose syncs of the Raft log, or of the volumes, are removed."""
    with Campaign(root, nodes=3, profile="replica-3", seed=1) as campaign:
        with pytest.raises(Loss, match=r"keys are wrong"):
            campaign.run(3, ignoring=[lying])
        assert campaign.ledger.acknowledged > 0
