"""How fast repair may go at a device: beside clients, alone, when exposed, and when an operator says."""

from __future__ import annotations

import pytest

from dwd.base.ids import DeviceId
from dwd.base.units import MIB
from dwd.blocks import pacing
from dwd.blocks.pacing import FLOOR_BYTES, Pacing
from tests.twins.manual_clock import ManualClock

CEILING = 200 * MIB
ONE = DeviceId(1)


class Disk:
    """A device's pacer, and clients who wait `seconds` each."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pacing = Pacing(self.clock, ceiling=CEILING)
        self.pacer = self.pacing.of(ONE)

    async def clients(self, waits: float, *, looks: int) -> float:
        """The rate after so many looks with busy clients."""
        for _ in range(looks):
            self.clock.advance(pacing.LOOK_SECONDS)
            for _ in range(10):
                self.pacer.client_waited(waits)
            await self.pacer.admit(1, urgent=False)
        return self.pacer.rate


async def test_repair_goes_at_the_ceiling_when_no_client_is_there() -> None:
    disk = Disk()
    disk.clock.advance(10)
    await disk.pacer.admit(1, urgent=False)
    assert disk.pacer.rate == CEILING


async def test_repair_steps_aside_at_once_when_clients_come_after_a_rest() -> None:
    disk = Disk()
    disk.clock.advance(10)
    await disk.pacer.admit(1, urgent=False)
    assert await disk.clients(0.02, looks=1) == FLOOR_BYTES


async def test_repair_grows_beside_clients_as_long_as_they_do_not_wait_longer() -> None:
    disk = Disk()
    slow = await disk.clients(0.02, looks=pacing.CALM_LOOKS)
    faster = await disk.clients(0.02, looks=10)
    assert slow == FLOOR_BYTES < faster < CEILING
    assert await disk.clients(0.02, looks=40) == CEILING


@pytest.mark.parametrize("lag", [0.0, 1.0])
async def test_repair_slows_down_when_clients_wait_more_than_twice_as_long_or_the_loop_is_late(lag: float) -> None:
    disk = Disk()
    await disk.clients(0.02, looks=60)
    disk.pacing.lag = lambda: lag
    waits = 0.02 if lag else 0.05
    assert await disk.clients(waits, looks=12) < CEILING / 20


async def test_clients_that_wait_next_to_nothing_do_not_slow_repair_down() -> None:
    disk = Disk()
    await disk.clients(0.000_1, looks=60)
    assert await disk.clients(0.005, looks=10) == CEILING


async def test_exposed_blocks_go_on_when_other_repair_is_at_its_floor() -> None:
    disk = Disk()
    await disk.clients(0.02, looks=60)
    await disk.clients(1.0, looks=30)
    assert disk.pacer.rate == FLOOR_BYTES
    assert disk.pacer._urgent._rate == CEILING * pacing.URGENT_SHARE


async def test_rate_is_what_an_operator_says_whatever_clients_wait() -> None:
    disk = Disk()
    disk.pacing.fixed = 50.0 * MIB
    assert await disk.clients(5.0, looks=8) == 50 * MIB
    disk.pacing.fixed = None
    assert await disk.clients(5.0, looks=8) < 50 * MIB
