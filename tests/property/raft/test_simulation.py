"""The group survives what networks, disks and clocks do, seed by seed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.raft_harness.simulation import SMALL, Hostility, Simulation, machine_digests

KINDS = {
    "calm network, crashes": Hostility(drop=0, duplicate=0, partition=0, change=0, crash=0.02, torn=0),
    "bad network": Hostility(drop=0.2, duplicate=0.2, crash=0, partition=0.03, change=0, torn=0),
    "everything": Hostility(),
    "membership": Hostility(change=0.1, torn=0),
    "torn tails": Hostility(crash=0.02, torn=1, rot=0, power_loss=0.004),
    "rot": Hostility(crash=0.02, torn=1, rot=1, change=0),
}
JOINT = Hostility(change=0.05, crash=0.002, torn=0.1, partition=0.005)
WITNESSES = {3: 1, 4: 1, 5: 2}
PAUSES = Hostility(
    change=0.003, pause=0.001, crash=0.0005, transfer=0.0003, partition=0.002, unreachable=0.002, power_loss=0.0001
)

REGRESSIONS = [
    # Every voter that was left had priority 0: nobody could lead any more.
    (Hostility(change=0.1, torn=0), {"voters": 3, "seed": 111}),
    (Hostility(change=0.1, torn=0), {"voters": 3, "seed": 125}),
    (Hostility(change=0.1, torn=0), {"voters": 3, "seed": 126}),
    # A voter of priority 0 alone had the whole log, and never stood.
    (Hostility(change=0.03), {"voters": 4, "witnesses": 1, "seed": 112}),
]


def check(simulation: Simulation, steps: int = 3000) -> None:
    simulation.run(steps)
    simulation.heal()
    assert all(len(digests) == 1 for digests in machine_digests(simulation).values())
    assert simulation.counts["write"] > 0
    assert simulation.counts["read"] > 0


@pytest.mark.parametrize("voters", [1, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_promises_hold_when_all_goes_wrong(kind: str, voters: int, seed: int) -> None:
    if kind == "rot" and voters == 1:
        pytest.skip("a single copy that rots is lost")
    check(Simulation(seed=seed * 1000 + voters, voters=voters, hostility=KINDS[kind]))


@pytest.mark.parametrize("voters", [3, 4, 5])
@pytest.mark.parametrize("seed", range(4))
def test_promises_hold_when_many_members_change_at_once(voters: int, seed: int) -> None:
    check(Simulation(seed=seed, voters=voters, hostility=JOINT))


@pytest.mark.parametrize("voters", [3, 4, 5])
@pytest.mark.parametrize("change", [0, 0.03], ids=["fixed", "changing"])
@pytest.mark.parametrize("seed", range(3))
def test_promises_hold_when_some_voters_are_witnesses(voters: int, change: float, seed: int) -> None:
    hostility = Hostility(change=change)
    check(Simulation(seed=seed, voters=voters, witnesses=WITNESSES[voters], hostility=hostility))


@pytest.mark.parametrize("voters", [3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_reads_are_linearizable_when_leases_answer_them_and_processes_pause(voters: int, seed: int) -> None:
    options = replace(SMALL, lease_reads=True)
    simulation = Simulation(seed=seed, voters=voters, timed=True, hostility=PAUSES, options=options)
    check(simulation, 6000)
    assert simulation.counts["lease read"] > 0


@pytest.mark.parametrize(("hostility", "world"), REGRESSIONS)
def test_promises_hold_when_they_once_did_not(hostility: Hostility, world: dict[str, int]) -> None:
    check(Simulation(**world, hostility=hostility))
