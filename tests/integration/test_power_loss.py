"""Power loss of all nodes at once, on real daemons (raft.md section 7). More: `make power-loss ROUNDS=50 SEED=7`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.power_loss.campaign import KINDS, Campaign
from tests.power_loss.machine import Loss, PowerCluster

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PowerCluster]:
    """Three nodes, stopped and remembered. Their preallocated segments are not kept."""
    root = tmp_path_factory.mktemp("power")
    cluster = PowerCluster(root, nodes=3, profile="replica-3")
    try:
        cluster.up()
        cluster.save()
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def campaign(made: PowerCluster) -> Iterator[Campaign]:
    made.restore()
    with Campaign(made, seed=1) as campaign:
        yield campaign


def test_nothing_acknowledged_is_lost_when_all_nodes_lose_power_at_once(campaign: Campaign) -> None:
    campaign.run(len(KINDS))
    assert campaign.ledger.acknowledged > 0


@pytest.mark.parametrize("lying", ["log", pytest.param("devices", marks=pytest.mark.campaign)])
def test_a_loss_is_found_when_syncs_do_nothing(campaign: Campaign, lying: str) -> None:
    """The same on a build whose syncs of the Raft log, or of the volumes, are removed."""
    with pytest.raises(Loss, match=r"keys are wrong"):
        campaign.run(2, ignoring=[lying])
    assert campaign.ledger.acknowledged > 0
