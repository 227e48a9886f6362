"""The lag probe sees a blocked loop."""

from __future__ import annotations

import asyncio
import contextlib

from structlog.testing import capture_logs

from dwd.observability import metrics
from dwd.runtime import loop_lag
from tests.twins.virtual_time import VirtualClock, VirtualLoop, run_virtually


def lag_seconds_recorded(block_seconds: float) -> tuple[float, list[object]]:
    (lag,) = [found for found in metrics.instruments() if found.name == "dwd.runtime.loop.lag"]
    assert isinstance(lag, metrics.Histogram)

    async def main() -> None:
        probe = asyncio.get_running_loop().create_task(loop_lag.watch_loop_lag(VirtualClock(), probe_seconds=0.25))
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.jump(block_seconds)
        await asyncio.sleep(0.3)
        probe.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await probe

    def total() -> float:
        return sum(cell.total for cell in lag.values().values())

    before = total()
    with capture_logs() as lines:
        run_virtually(main())
    return total() - before, [line["event"] for line in lines]


def test_lag_is_recorded_and_logged_when_something_blocks_the_loop() -> None:
    seconds, lines = lag_seconds_recorded(2.0)
    assert 1.8 < seconds < 2.0
    assert lines == ["event loop was blocked"]


def test_lag_is_near_zero_and_unlogged_when_nothing_blocks_the_loop() -> None:
    seconds, lines = lag_seconds_recorded(0.0)
    assert seconds < 0.001
    assert lines == []
