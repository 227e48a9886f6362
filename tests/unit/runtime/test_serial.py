"""Lanes: order within, independence between, and what closing promises."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from dwd.base.errors import Unavailable
from dwd.runtime.serial import PIECES_A_TURN, ThreadLanes

PATIENCE_SECONDS = 30.0


@pytest.fixture
async def lanes() -> AsyncIterator[ThreadLanes]:
    opened = ThreadLanes(threads=2, name="test")
    yield opened
    await opened.close()


def blocked(gate: threading.Event) -> Callable[[], bool]:
    return lambda: gate.wait(PATIENCE_SECONDS)


async def test_work_of_a_lane_runs_alone_and_in_order_when_threads_are_free(lanes: ThreadLanes) -> None:
    lane, seen, inside = lanes.lane("one"), list[int](), list[int]()

    def piece(number: int) -> int:
        inside.append(number)
        assert len(inside) == 1
        seen.append(number)
        inside.remove(number)
        return number

    count = 20 * PIECES_A_TURN
    results = await asyncio.gather(*(lane.submit(lambda n=n: piece(n)) for n in range(count)))  # type: ignore[misc]
    assert seen == results == list(range(count))


async def test_other_lanes_go_on_when_one_is_held_up(lanes: ThreadLanes) -> None:
    gate = threading.Event()
    held = lanes.lane("held").submit(blocked(gate))
    behind = [lanes.lane(f"lane {n}").submit(lambda n=n: n) for n in range(10)]  # type: ignore[misc]
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await asyncio.gather(*behind) == list(range(10))
    assert not held.done()
    gate.set()
    assert await held


async def test_a_lane_with_much_to_do_lets_others_have_their_turn_when_there_is_one_thread() -> None:
    lanes, order = ThreadLanes(threads=1, name="test"), list[str]()
    gate = threading.Event()
    busy, other = lanes.lane("busy"), lanes.lane("other")
    first = busy.submit(blocked(gate))
    rest = [busy.submit(lambda: order.append("busy")) for _ in range(10 * PIECES_A_TURN)]
    late = other.submit(lambda: order.append("other"))
    gate.set()
    await asyncio.gather(first, *rest, late)
    assert order.index("other") <= PIECES_A_TURN
    await lanes.close()


async def test_work_runs_when_its_caller_gave_up(lanes: ThreadLanes) -> None:
    gate, ran = threading.Event(), threading.Event()
    lane = lanes.lane("one")
    held = lane.submit(blocked(gate))
    given_up = lane.submit(ran.set)
    given_up.cancel()
    gate.set()
    assert await held
    await lane.submit(lambda: None)
    assert ran.is_set()


async def test_an_error_reaches_its_caller_and_the_lane_goes_on_when_work_fails(lanes: ThreadLanes) -> None:
    lane = lanes.lane("one")

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await lane.submit(fail)
    assert await lane.submit(lambda: 7) == 7


async def test_closing_runs_the_last_work_after_all_other_and_takes_no_more(lanes: ThreadLanes) -> None:
    lane, gate, order = lanes.lane("one"), threading.Event(), list[str]()
    _ = lane.submit(blocked(gate))
    _ = lane.submit(lambda: order.append("work"))
    lane.close(lambda: order.append("last"))
    lane.close(lambda: order.append("again"))
    with pytest.raises(Unavailable):
        lane.submit(lambda: None)
    gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await lane.closed()
    assert order == ["work", "last"]


async def test_everything_submitted_has_run_when_the_lanes_are_closed() -> None:
    lanes, gate, done = ThreadLanes(threads=1, name="test"), threading.Event(), list[int]()
    lane = lanes.lane("one")
    held = lane.submit(blocked(gate))
    rest = [lane.submit(lambda n=n: done.append(n)) for n in range(5 * PIECES_A_TURN)]  # type: ignore[misc]
    asyncio.get_running_loop().call_later(0.01, gate.set)
    await lanes.close()
    assert done == list(range(5 * PIECES_A_TURN))
    await asyncio.gather(held, *rest)


async def test_work_of_no_lane_comes_back_when_it_is_done(lanes: ThreadLanes) -> None:
    assert await lanes.run(lambda: 3) == 3
