"""The group survives what networks and disks do, seed by seed."""

from __future__ import annotations

import pytest

from tests.raft_harness.simulation import Hostility, Simulation, machine_digests

KINDS = {
    "calm network, crashes": Hostility(drop=0, duplicate=0, partition=0, change=0, crash=0.02, torn=0),
    "bad network": Hostility(drop=0.2, duplicate=0.2, crash=0, partition=0.03, change=0, torn=0),
    "everything": Hostility(),
    "membership": Hostility(change=0.1, torn=0),
    "torn tails": Hostility(crash=0.02, torn=1, rot=0, power_loss=0.004),
    "rot": Hostility(crash=0.02, torn=1, rot=1, change=0),
}


@pytest.mark.parametrize("voters", [1, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_promises_hold_when_all_goes_wrong(kind: str, voters: int, seed: int) -> None:
    if kind == "rot" and voters == 1:
        pytest.skip("a single copy that rots is lost")
    simulation = Simulation(seed=seed * 1000 + voters, voters=voters, hostility=KINDS[kind])
    simulation.run(3000)
    simulation.heal()
    assert all(len(digests) == 1 for digests in machine_digests(simulation).values())
    assert simulation.counts["write"] > 0
    assert simulation.counts["read"] > 0
