"""--watch outlives the node that it asks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
from rich.console import Console

from dwctl import watching
from dwd.base.errors import DwError, NotFound, Unavailable

GONE = Unavailable("t.gone", "the node went away")


class World:
    """`answers`: what the one who connects first is told, one after another, then the next one."""

    def __init__(self, *answers: list[Any]) -> None:
        self.answers = list(answers)
        self.connected = 0

    @contextmanager
    def connect(self) -> Iterator[Any]:
        self.connected += 1
        yield iter(self.answers.pop(0))

    def follow(self, count: int) -> list[Any]:
        return list(islice(watching.follow(self.connect, ask), count))


def ask(client: Any) -> str:
    answer = next(client)
    if isinstance(answer, Exception):
        raise answer
    return str(answer)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "REFRESH_SECONDS", 0.0)


def test_another_node_is_asked_when_the_one_that_answered_goes_away() -> None:
    world = World(["a", "b", GONE], [GONE], ["c", "d"])
    assert world.follow(6) == ["a", "b", GONE, GONE, "c", "d"]
    assert world.connected == 3


@pytest.mark.parametrize("answers", [[GONE], [NotFound("t.none", "no such group")]])
def test_error_is_raised_when_nothing_was_shown_yet(answers: list[Any]) -> None:
    with pytest.raises(DwError):
        World(answers).follow(1)


def test_error_is_raised_when_no_other_node_would_know_better() -> None:
    with pytest.raises(NotFound):
        World(["a", NotFound("t.none", "no such group")]).follow(2)


def test_last_page_stays_below_a_remark_when_nobody_answers() -> None:
    sink = io.StringIO()
    console = Console(file=sink, width=60, height=10, force_terminal=True, highlight=False)
    watching.show(console, iter(["a page", GONE]), lambda found, height: f"{found} of {height}")
    shown = sink.getvalue()
    assert "a page of 9" in shown
    assert "not up to date, trying other nodes: the node went away" in shown
    assert "a page of 8" in shown
