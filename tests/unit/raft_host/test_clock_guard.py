"""A node that notices that its clock is wrong: the guard by itself. Source: raft.md section 4."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dwd.base.ids import NodeId
from dwd.raft.clock_guard import (
    ERROR_MS_MAX,
    HANDOVER_SECONDS,
    JUMP_SECONDS,
    RIGHT_SECONDS,
    SAMPLE_SECONDS,
    ClockGuard,
)
from tests.twins.manual_clock import ManualClock

DAY_MS = 86_400_000
A, B = NodeId(2), NodeId(3)


class Bench:
    """A guard and two other nodes whose clocks are right."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.guard = ClockGuard(self.clock)
        self.doubts = 0
        self.guard.on_doubt(self._doubt)
        self._ahead_ms = self.clock.unix_ms() - self.clock.monotonic() * 1000

    def _doubt(self) -> None:
        self.doubts += 1

    def truth_ms(self) -> int:
        return int(self._ahead_ms + self.clock.monotonic() * 1000)

    def ask(self, *nodes: NodeId, seconds: float = 0.0, voters: tuple[NodeId, ...] = (A, B)) -> None:
        """Ask `nodes`, whose answers take `seconds`; then judge."""
        self.guard.judge(voters)
        asked_at, told = self.clock.monotonic(), self.truth_ms()
        for node in nodes:
            self.guard.heard(node, told, asked_at=asked_at - seconds / 2, answered_at=asked_at + seconds / 2)
        self.guard.judge(voters)

    def skew(self, milliseconds: int) -> None:
        self.clock.set_unix_ms(self.truth_ms() + milliseconds)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.guard.close()


def test_clock_is_off_when_it_began_a_day_ahead_of_the_others() -> None:
    bench = Bench()
    bench.skew(DAY_MS)
    bench.guard.close()
    bench.guard = ClockGuard(bench.clock)
    bench.ask(A, B)
    status = bench.guard.status()
    assert status.off
    assert status.offset_seconds == pytest.approx(86_400, abs=0.01)
    assert (status.known, status.voters) == (3, 3)
    assert abs(bench.guard.unix_ms() - bench.truth_ms()) <= 1, "stamps are the median's while it hands over"
    bench.guard.close()


def test_a_leader_is_given_time_when_its_clock_is_off(bench: Bench) -> None:
    bench.ask(A, B)
    assert not bench.guard.bars(bench.clock.monotonic(), leads=False)
    bench.skew(-DAY_MS)
    bench.ask(A, B)
    now = bench.clock.monotonic()
    assert bench.guard.bars(now, leads=False)
    assert not bench.guard.bars(now, leads=True)
    assert bench.guard.bars(now + HANDOVER_SECONDS, leads=True)


def test_stamps_go_on_from_before_when_the_clock_jumped(bench: Bench) -> None:
    bench.ask(A, B)
    bench.skew(DAY_MS)
    assert bench.guard.unix_ms() == bench.truth_ms()
    assert bench.doubts == 1
    bench.clock.advance(1.0)
    assert bench.guard.unix_ms() == bench.truth_ms()
    bench.ask(A, B)
    assert bench.guard.off
    assert abs(bench.guard.unix_ms() - bench.truth_ms()) <= 1
    assert bench.doubts == 1


def test_answers_from_before_count_for_nothing_when_the_clock_jumped(bench: Bench) -> None:
    """The machine slept: its wall clock is right, its monotonic one stood still."""
    bench.ask(A, B)
    bench.clock.advance(0.5)
    bench._ahead_ms += 60_000
    bench.skew(0)
    bench.guard.judge((A, B))
    assert not bench.guard.off
    bench.ask(A, B)
    assert not bench.guard.off
    assert bench.guard.unix_ms() == bench.truth_ms()


def test_a_jump_is_believed_when_nobody_answers_for_a_while(bench: Bench) -> None:
    bench.ask(A, B)
    bench.clock.advance(0.1)
    bench.skew(DAY_MS)
    bench.ask()
    assert bench.guard.unix_ms() == bench.truth_ms()
    bench.clock.advance(JUMP_SECONDS + 0.1)
    bench.ask()
    assert bench.guard.unix_ms() == bench.truth_ms() + DAY_MS
    assert not bench.guard.off


def test_a_jump_is_believed_when_there_is_no_other_voter(bench: Bench) -> None:
    bench.ask(voters=())
    bench.skew(DAY_MS)
    assert bench.guard.unix_ms() == bench.truth_ms() + DAY_MS
    assert bench.guard.status().offset_seconds is None


def test_a_drift_is_followed_when_no_step_is_a_jump(bench: Bench) -> None:
    bench.ask(A, B)
    for step in range(1, 5):
        bench.skew(100 * step)
        assert bench.guard.unix_ms() == bench.truth_ms() + 100 * step
    bench.ask(A, B)
    assert not bench.guard.off
    for step in range(5, 8):
        bench.skew(100 * step)
        bench.ask(A, B)
    assert bench.guard.off, "and found all the same"


def test_nothing_is_blocked_when_no_quorum_of_clocks_is_known(bench: Bench) -> None:
    five = (A, B, NodeId(4), NodeId(5))
    bench.ask(A, voters=five)
    bench.skew(DAY_MS)
    bench.clock.advance(JUMP_SECONDS + 0.1)
    bench.ask(A, voters=five)
    assert not bench.guard.off
    bench.ask(A, B, voters=five)
    assert bench.guard.off
    bench.clock.advance(SAMPLE_SECONDS + 0.1)
    bench.ask(voters=five)
    assert not bench.guard.off


def test_answers_are_not_used_when_they_took_too_long_or_are_of_strangers(bench: Bench) -> None:
    bench.ask(A, B, seconds=2 * ERROR_MS_MAX / 1000 + 0.01)
    assert bench.guard.status().known == 1
    bench.ask(NodeId(9))
    assert bench.guard.status().known == 1


def test_clock_is_right_again_only_when_it_was_so_for_a_while(bench: Bench) -> None:
    bench.ask(A, B)
    bench.skew(DAY_MS)
    bench.ask(A, B)
    assert bench.guard.off
    bench.skew(300)
    bench.ask(A, B)
    bench.clock.advance(RIGHT_SECONDS + 1)
    bench.ask(A, B)
    assert bench.guard.off, "between the two limits nothing changes"
    bench.skew(0)
    bench.ask(A, B)
    assert bench.guard.off
    bench.clock.advance(RIGHT_SECONDS - 0.5)
    bench.ask(A, B)
    assert bench.guard.off
    bench.clock.advance(0.6)
    bench.ask(A, B)
    assert not bench.guard.off
    assert bench.guard.unix_ms() == bench.truth_ms()
