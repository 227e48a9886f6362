"""How many blocks are short of fragments, and how many are one loss from unreadable."""

from __future__ import annotations

from typing import Any

import pytest

from dwd.base.blocks import StoredBlock
from dwd.base.ids import BlockId, DeviceId, LayoutEpoch, NodeId
from dwd.blocks import walker
from dwd.blocks.tally import Tally
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.runtime.worker import Progress
from tests.twins.memory_blocks import MemoryTopology, NodeTopology
from tests.twins.memory_catalogue import MemoryCatalogue
from tests.twins.walking import counting_walker


class StillClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def unix_ms(self) -> int:
        return int(self.now * 1000)


class Region:
    """Six devices, one a node, and the worker that counts over them."""

    def __init__(self) -> None:
        self.shared, self.catalogue, self.clock = MemoryTopology(), MemoryCatalogue(), StillClock()
        for number in range(1, 7):
            self.shared.views[DeviceId(number)] = DeviceView(
                device=DeviceId(number), node=NodeId(number), zone="", rack="", weight=10, health=DeviceHealth.UP
            )
        self.shared.relayout()
        self.worker = counting_walker(self.catalogue, NodeTopology(self.shared, NodeId(1)), self.clock)

    def add(self, count: int, *, profile: str = "rs-4-2", **more: Any) -> None:
        for _ in range(count):
            number = len(self.catalogue.rows) + 1
            identity = BlockId(bytes(8) + number.to_bytes(2) + number.to_bytes(6))
            self.catalogue.add(
                StoredBlock(block=identity, profile=profile, length=10, crc32c=0, layout_epoch=LayoutEpoch(1), **more)
            )

    def down(self, *devices: int) -> None:
        for number in range(1, 7):
            health = DeviceHealth.DOWN if number in devices else DeviceHealth.UP
            self.shared.set_health(DeviceId(number), health)

    async def counted(self) -> Tally:
        while await self.worker.work() is Progress.BUSY:
            continue
        return self.worker.tally()


@pytest.fixture
def region() -> Region:
    return Region()


async def test_nothing_is_exposed_when_all_is_there(region: Region) -> None:
    region.add(5)
    assert await region.counted() == Tally(degraded=0, at_risk=0)


async def test_blocks_are_degraded_and_then_at_risk_as_devices_go_down(region: Region) -> None:
    region.add(5)
    region.add(3, profile="none")
    region.down(1)
    one = await region.counted()
    assert (one.degraded >= 5, one.at_risk) == (True, 0)
    region.down(1, 2)
    two = await region.counted()
    assert (two.degraded >= 5, two.at_risk) == (True, 5)
    region.down()
    assert await region.counted() == Tally(degraded=0, at_risk=0)


async def test_row_that_waits_for_repair_counts_while_every_device_is_up(region: Region) -> None:
    region.add(4)
    region.add(1, missing=(5,))
    region.add(1, missing=(4, 5))
    assert await region.counted() == Tally(degraded=2, at_risk=1)


async def test_rows_are_walked_page_by_page(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walker, "PAGE", 3)
    region.add(8)
    region.down(6)
    assert await region.worker.work() is Progress.BUSY
    assert region.worker.tally() == Tally(), "half a count is not shown"
    assert (await region.counted()).degraded == 8


async def test_count_begins_anew_when_another_device_falls_in_its_middle(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walker, "PAGE", 3)
    region.add(8)
    region.down(6)
    assert await region.worker.work() is Progress.BUSY
    region.down(1, 2)
    assert (await region.counted()).at_risk == 8


@pytest.mark.parametrize(("took", "kept"), [(2.0, 20.0), (100.0, walker.REFRESH_SECONDS)])
async def test_full_count_is_kept_as_long_as_it_was_dear_and_begun_anew_when_another_device_falls(
    region: Region, monkeypatch: pytest.MonkeyPatch, took: float, kept: float
) -> None:
    monkeypatch.setattr(walker, "PAGE", 1)
    region.add(2)
    region.down(1)
    assert await region.worker.work() is Progress.BUSY
    region.clock.now += took
    await region.counted()
    region.add(2)
    region.clock.now += kept - 0.5
    assert (await region.counted()).degraded == 2
    region.clock.now += 0.5
    assert await region.worker.work() is Progress.BUSY
    region.clock.now += took
    assert (await region.counted()).degraded == 4
    region.add(2)
    region.down(1, 2)
    assert (await region.counted()).degraded == 6


async def test_full_count_is_fresh_when_it_costs_nothing(region: Region) -> None:
    """A device that is lost stays down for good: the status went on telling of blocks long healed, or gone."""
    region.add(2)
    region.down(1)
    assert (await region.counted()).degraded == 2
    region.add(2)
    assert (await region.counted()).degraded == 4


async def test_shard_that_is_led_elsewhere_is_no_longer_counted(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    region.add(2, missing=(1,))
    assert (await region.counted()).degraded == 2
    monkeypatch.setattr(region.catalogue, "groups", lambda: ())
    assert await region.counted() == Tally()
