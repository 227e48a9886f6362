"""The lag probe sees a blocked loop."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from dwd.observability import metrics
from dwd.runtime.loop_lag import LoopLag
from tests.twins.virtual_time import VirtualClock, VirtualLoop, run_virtually


def measured(block_seconds: float, calm_seconds: float = 0.3) -> tuple[float, float, list[object]]:
    """What was recorded, what the probe says at the end, and what was logged, when the loop is blocked once."""
    (histogram,) = [found for found in metrics.instruments() if found.name == "dwd.runtime.loop.lag"]
    assert isinstance(histogram, metrics.Histogram)

    async def main() -> float:
        lag = LoopLag(VirtualClock(), probe_seconds=0.25)
        probe = asyncio.get_running_loop().create_task(lag.run())
        await asyncio.sleep(0.1)
        assert lag.seconds() == 0.0
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.jump(block_seconds)
        await asyncio.sleep(calm_seconds)
        probe.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await probe
        return lag.seconds()

    def total() -> float:
        return sum(cell.total for cell in histogram.values().values())

    before = total()
    with capture_logs() as lines:
        recent = run_virtually(main())
    return total() - before, recent, [line["event"] for line in lines]


def test_lag_is_recorded_and_logged_when_something_blocks_the_loop() -> None:
    recorded, recent, lines = measured(2.0)
    assert 1.8 < recorded < 2.0
    assert recent == pytest.approx(recorded, abs=0.001)
    assert lines == ["event loop was blocked"]


def test_lag_is_near_zero_and_unlogged_when_nothing_blocks_the_loop() -> None:
    recorded, recent, lines = measured(0.0)
    assert recorded < 0.001
    assert recent < 0.001
    assert lines == []


def test_lag_is_forgotten_when_the_loop_has_been_calm_since() -> None:
    _, recent, _ = measured(2.0, calm_seconds=10.0)
    assert recent < 0.001
