"""Supervision: who hears of failures, what closing does, what the limits refuse."""

from __future__ import annotations

import asyncio

import pytest

from dwd.base.errors import Busy, Unavailable
from dwd.runtime.tasks import Tasks
from tests.twins.virtual_time import run_virtually


class Reports:
    def __init__(self) -> None:
        self.seen: list[tuple[str, BaseException]] = []

    def __call__(self, name: str, error: BaseException) -> None:
        self.seen.append((name, error))


async def forever() -> None:
    await asyncio.Event().wait()


async def test_failure_is_reported_once_with_the_tasks_name_when_nobody_awaits_it() -> None:
    reports = Reports()
    async with Tasks("raft", reports) as tasks:

        async def break_down() -> None:
            raise OSError("disk gone")

        await asyncio.wait({tasks.spawn(break_down(), name="persist")})
        await asyncio.sleep(0)
    assert [(name, str(error)) for name, error in reports.seen] == [("raft/persist", "disk gone")]


async def test_result_is_handed_over_and_nothing_reported_when_a_task_succeeds() -> None:
    reports = Reports()

    async def answer() -> int:
        return 42

    async with Tasks("raft", reports) as tasks:
        assert await tasks.spawn(answer(), name="answer") == 42
        await asyncio.sleep(0)
        assert len(tasks) == 0
    assert reports.seen == []


async def test_close_waits_for_clean_up_when_tasks_are_cancelled() -> None:
    reports = Reports()
    order: list[str] = []

    async def careful() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            order.append("cleaned")

    tasks = Tasks("raft", reports)
    tasks.spawn(careful(), name="careful")
    await asyncio.sleep(0)
    await tasks.close()
    order.append("closed")
    assert order == ["cleaned", "closed"]
    assert reports.seen == []


def test_close_returns_and_reports_when_a_task_ignores_its_cancel() -> None:
    reports = Reports()

    async def main() -> float:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        tasks = Tasks("raft", reports, close_seconds=3.0)
        task = tasks.spawn(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        await tasks.close()
        waited = asyncio.get_running_loop().time()
        release.set()
        await task
        return waited

    assert run_virtually(main()) == pytest.approx(3.0)
    assert [(name, type(error)) for name, error in reports.seen] == [("raft/stubborn", TimeoutError)]


async def test_close_does_not_wait_for_itself_when_a_member_calls_it() -> None:
    tasks = Tasks("raft", Reports())

    async def closer() -> str:
        await tasks.close()
        return "closed"

    other = tasks.spawn(forever(), name="other")
    assert await tasks.spawn(closer(), name="closer") == "closed"
    assert other.cancelled()


async def test_spawn_is_refused_when_closed() -> None:
    tasks = Tasks("raft", Reports())
    await tasks.close()
    with pytest.raises(Unavailable, match="shutting down"):
        tasks.spawn(forever(), name="late")


async def test_spawn_is_refused_when_the_limit_is_reached() -> None:
    async with Tasks("raft", Reports(), limit=2) as tasks:
        tasks.spawn(forever(), name="a")
        tasks.spawn(forever(), name="b")
        with pytest.raises(Busy):
            tasks.spawn(forever(), name="c")
        assert len(tasks) == 2


async def test_members_are_cancelled_when_the_block_raises() -> None:
    started: list[asyncio.Task[None]] = []

    async def block() -> None:
        async with Tasks("raft", Reports()) as tasks:
            started.append(tasks.spawn(forever(), name="a"))
            raise KeyError

    with pytest.raises(KeyError):
        await block()
    assert started[0].cancelled()
