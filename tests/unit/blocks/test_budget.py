"""Who waits for bytes, and what becomes of those who stop waiting."""

from __future__ import annotations

import asyncio

import pytest

from dwd.base.errors import Busy, DeadlineExceeded
from dwd.blocks.budget import ByteBudget
from dwd.runtime.clock import SystemClock


class Holder:
    def __init__(self, budget: ByteBudget, size: int, seconds: float = 20.0) -> None:
        self.inside, self.leave = asyncio.Event(), asyncio.Event()
        self.task = asyncio.ensure_future(self._hold(budget, size, seconds))  # noqa: TID251

    async def _hold(self, budget: ByteBudget, size: int, seconds: float) -> None:
        async with budget.holding(size, deadline=SystemClock().monotonic() + seconds):
            self.inside.set()
            await self.leave.wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_turns_come_in_order_when_bytes_are_given_back() -> None:
    budget = ByteBudget(SystemClock(), 10)
    first, second, third = Holder(budget, 8), Holder(budget, 5), Holder(budget, 1)
    await settle()
    assert (first.inside.is_set(), second.inside.is_set(), third.inside.is_set()) == (True, False, False)
    first.leave.set()
    await settle()
    assert second.inside.is_set()
    assert third.inside.is_set()
    for holder in (second, third):
        holder.leave.set()
        await holder.task
    assert budget.used == 0


async def test_the_next_has_its_turn_when_one_gives_up_waiting() -> None:
    budget = ByteBudget(SystemClock(), 10)
    first, tired, gone, last = Holder(budget, 8), Holder(budget, 9, 0.0), Holder(budget, 9), Holder(budget, 2)
    await settle()
    gone.task.cancel()
    with pytest.raises(DeadlineExceeded):
        await tired.task
    await asyncio.wait_for(last.inside.wait(), 5)
    first.leave.set()
    last.leave.set()
    await asyncio.gather(first.task, last.task)
    assert budget.used == 0


async def test_nothing_is_kept_when_a_turn_comes_to_one_that_was_just_cancelled() -> None:
    budget = ByteBudget(SystemClock(), 10)
    first, second = Holder(budget, 8), Holder(budget, 8)
    await settle()
    first.leave.set()
    await first.task
    second.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second.task
    assert budget.used == 0


async def test_what_exceeds_the_budget_goes_alone_and_a_full_queue_refuses() -> None:
    budget = ByteBudget(SystemClock(), 10, waiting_max=1)
    large, waiting = Holder(budget, 100), Holder(budget, 1)
    await settle()
    with pytest.raises(Busy):
        await Holder(budget, 1).task
    large.leave.set()
    await waiting.inside.wait()
    waiting.leave.set()
    await asyncio.gather(large.task, waiting.task)
    assert budget.used == 0
