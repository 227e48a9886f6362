"""The runner: when a worker runs again, after success, failure, waking, pausing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from dwd.base.errors import (
    Busy,
    DeadlineExceeded,
    DwError,
    InvariantViolation,
    NotFound,
    OutcomeUnknown,
    StorageFailed,
    Unavailable,
)
from dwd.runtime.tasks import Tasks
from dwd.runtime.worker import Progress
from dwd.runtime.workers import BACKOFF_SECONDS_MAX, QUIET_FAILURES, WorkerRunner, WorkerState, WorkerStatus
from tests.twins.virtual_time import EPOCH_MS, SeededRng, VirtualClock, run_virtually

IDLE_SECONDS = 100.0
Step = Progress | Exception


class Scripted:
    """Does what its script says, each piece taking `work_seconds`, and idles when it is over."""

    def __init__(self, *script: Step, work_seconds: float = 1.0) -> None:
        self.name = "blocks.repair"
        self.idle_seconds = IDLE_SECONDS
        self.script = list(script)
        self.work_seconds = work_seconds
        self.started: list[float] = []
        self.at_once = 0
        self.during: Callable[[], None] = lambda: None

    async def work(self) -> Progress:
        self.at_once += 1
        assert self.at_once == 1
        self.started.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.work_seconds)
        self.during()
        self.at_once -= 1
        step = self.script.pop(0) if self.script else Progress.IDLE
        if isinstance(step, Exception):
            raise step
        return step


Scenario = Callable[[WorkerRunner, Scripted], Coroutine[Any, Any, None]]


def played(worker: Scripted, scenario: Scenario, *, pace: float = 2.0) -> tuple[WorkerStatus, list[BaseException]]:
    """Run `worker` through `scenario` in virtual time; its last status, and what the tasks' owner heard."""
    heard: list[BaseException] = []

    async def main() -> WorkerStatus:
        async with Tasks("node", lambda _name, error: heard.append(error)) as tasks:
            runner = WorkerRunner(tasks, VirtualClock(), SeededRng())
            runner.add(worker, pace=pace)
            await scenario(runner, worker)
            (status,) = runner.snapshot()
            return status

    return run_virtually(main()), heard


def after(seconds: float) -> Scenario:
    async def scenario(_runner: WorkerRunner, _worker: Scripted) -> None:
        await asyncio.sleep(seconds)

    return scenario


def test_rests_in_proportion_to_its_work_when_busy() -> None:
    worker = Scripted(Progress.BUSY, Progress.BUSY)
    status, _ = played(worker, after(8.5), pace=2.0)
    assert worker.started == pytest.approx([0.0, 3.0, 6.0], abs=1e-6)
    assert (status.runs, status.failures, status.state) == (3, 0, WorkerState.IDLE)


def test_runs_back_to_back_and_lets_others_run_when_pace_is_zero() -> None:
    worker = Scripted(*[Progress.BUSY] * 50, work_seconds=0.0)
    status, _ = played(worker, after(1.0), pace=0.0)
    assert status.runs == 51


def test_rests_for_its_idle_time_when_nothing_is_to_do() -> None:
    worker = Scripted()
    status, _ = played(worker, after(150))
    assert worker.started == pytest.approx([0.0, 101.0], abs=1e-6)
    assert status.last_run_ms == EPOCH_MS + 101_000


def test_waits_about_a_second_when_throttled() -> None:
    worker = Scripted(Progress.THROTTLED)
    played(worker, after(10))
    assert 1.5 <= worker.started[1] <= 2.5


def test_runs_at_once_when_woken_from_idle() -> None:
    async def scenario(runner: WorkerRunner, _worker: Scripted) -> None:
        await asyncio.sleep(10)
        runner.wake("blocks.repair")
        await asyncio.sleep(5)

    worker = Scripted()
    played(worker, scenario)
    assert worker.started == pytest.approx([0.0, 10.0], abs=1e-6)


def test_runs_again_when_woken_while_working() -> None:
    async def scenario(runner: WorkerRunner, worker: Scripted) -> None:
        def wake_once() -> None:
            runner.wake("blocks.repair")
            worker.during = lambda: None

        worker.during = wake_once
        await asyncio.sleep(50)

    worker = Scripted()
    played(worker, scenario)
    assert worker.started == pytest.approx([0.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("step", [StorageFailed("disk.gone", "no"), Progress.BUSY, Progress.THROTTLED])
def test_pause_is_kept_when_woken_before_it_is_over(step: Step) -> None:
    async def storm(runner: WorkerRunner, _worker: Scripted) -> None:
        for _ in range(200):
            runner.wake("blocks.repair")
            await asyncio.sleep(0.01)

    async def quiet(_runner: WorkerRunner, _worker: Scripted) -> None:
        await asyncio.sleep(5.0)

    stormy, calm = Scripted(step, work_seconds=0.4), Scripted(step, work_seconds=0.4)
    played(stormy, storm)
    played(calm, quiet)
    assert stormy.started[1] == pytest.approx(calm.started[1], abs=1e-6)


def test_backs_off_longer_and_longer_up_to_the_maximum_when_failing() -> None:
    worker = Scripted(*[StorageFailed("disk.gone", "the disk is gone")] * 14, work_seconds=0.0)
    status, heard = played(worker, after(5_000), pace=0.0)
    pauses = [later - earlier for earlier, later in zip(worker.started, worker.started[1:15], strict=False)]
    assert all(0.25 * 2**n <= pause <= 0.51 * 2**n for n, pause in enumerate(pauses[:6]))
    assert all(BACKOFF_SECONDS_MAX / 2 <= pause <= BACKOFF_SECONDS_MAX + 0.1 for pause in pauses[8:])
    assert (status.failures, status.failures_in_row) == (14, 0)
    assert status.last_error == "the disk is gone (disk.gone)"
    assert heard == []


def test_backs_off_from_the_start_again_when_it_had_recovered() -> None:
    broken = StorageFailed("disk.gone", "the disk is gone")
    worker = Scripted(broken, broken, broken, Progress.BUSY, broken, Progress.IDLE, work_seconds=0.0)
    played(worker, after(60), pace=0.0)
    assert worker.started[5] - worker.started[4] <= 0.51


def test_goes_on_and_logs_the_traceback_when_the_error_is_unexpected() -> None:
    worker = Scripted(KeyError("bug"), Progress.IDLE)
    with capture_logs() as lines:
        status, heard = played(worker, after(30))
    assert status.runs == 2
    assert status.last_error == "'bug'"
    assert heard == []
    assert [(line["log_level"], line["worker"], line["exc_info"]) for line in lines] == [
        ("error", "blocks.repair", True)
    ]


@pytest.mark.parametrize("kind", [Unavailable, OutcomeUnknown, DeadlineExceeded])
def test_peer_that_does_not_answer_is_a_warning_only_when_it_lasts(kind: type[DwError]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    away = [kind("test.away", "the peer is stopping")] * (QUIET_FAILURES + 1)
    worker = Scripted(*away, Progress.BUSY, away[0], work_seconds=0.0)
    with capture_logs() as lines:
        played(worker, after(100), pace=0.0)
    assert [line["log_level"] for line in lines] == ["info"] * QUIET_FAILURES + ["warning", "info"]


@pytest.mark.parametrize("kind", [StorageFailed, Busy])
def test_other_failure_is_a_warning_when_it_first_occurs(kind: type[DwError]) -> None:
    with capture_logs() as lines:
        played(Scripted(kind("test.broken", "no")), after(30))
    assert [(line["log_level"], line["code"]) for line in lines] == [("warning", "test.broken")]


def test_stops_for_good_and_tells_the_owner_when_an_invariant_is_violated() -> None:
    worker = Scripted(InvariantViolation("two and two is five"))
    status, heard = played(worker, after(1_000))
    assert (status.state, status.runs) == (WorkerState.FAILED, 1)
    assert [type(error) for error in heard] == [InvariantViolation]


def test_does_nothing_until_resumed_when_paused() -> None:
    async def scenario(runner: WorkerRunner, worker: Scripted) -> None:
        await asyncio.sleep(0.5)
        runner.pause("blocks.repair")
        await asyncio.sleep(500)
        runner.wake("blocks.repair")
        await asyncio.sleep(500)
        assert len(worker.started) == 1
        assert runner.snapshot()[0].state is WorkerState.PAUSED
        runner.resume("blocks.repair")
        await asyncio.sleep(0.5)

    worker = Scripted(*[Progress.BUSY] * 9)
    played(worker, scenario)
    assert worker.started == pytest.approx([0.0, 1000.5], abs=1e-6)


def test_new_pace_holds_from_the_next_rest_when_changed() -> None:
    async def scenario(runner: WorkerRunner, _worker: Scripted) -> None:
        await asyncio.sleep(0.5)
        runner.set_pace("blocks.repair", 9.0)
        await asyncio.sleep(15)
        assert runner.snapshot()[0].pace == 9.0

    worker = Scripted(Progress.BUSY, Progress.BUSY)
    played(worker, scenario)
    assert worker.started == pytest.approx([0.0, 10.0], abs=1e-6)


def test_work_is_cancelled_and_forgotten_when_removed() -> None:
    async def main() -> None:
        async with Tasks("node", lambda _name, _error: None) as tasks:
            runner = WorkerRunner(tasks, VirtualClock(), SeededRng())
            worker = Scripted(work_seconds=50)
            runner.add(worker)
            await asyncio.sleep(1)
            await runner.remove("blocks.repair")
            assert (runner.snapshot(), len(tasks)) == ((), 0)
            runner.add(Scripted())

    run_virtually(main())


def test_name_is_refused_when_taken_or_unknown() -> None:
    async def scenario(runner: WorkerRunner, _worker: Scripted) -> None:
        with pytest.raises(InvariantViolation):
            runner.add(Scripted())
        for call in (runner.wake, runner.pause, runner.resume, lambda name: runner.set_pace(name, 1.0)):
            with pytest.raises(NotFound):
                call("blocks.scrub")

    played(Scripted(), scenario)
