"""What --watch shows: asked for again and again, from whichever node answers.

A view of a cluster is wanted most while its nodes die, so it outlives the node that it asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

from dwd.base.errors import DeadlineExceeded, DwError, Unavailable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from dwctl.client import AdminClient

REFRESH_SECONDS = 1.0

Answer = TypeVar("Answer")


def follow(
    connect: Callable[[], AbstractContextManager[AdminClient]], ask: Callable[[AdminClient], Answer]
) -> Iterator[Answer | DwError]:
    """What `ask` returns, each REFRESH_SECONDS; the error instead while no node answers, and then another node is
    sought. Raises what goes wrong before the first answer, and what no other node would answer better.
    """
    answered = False
    while True:
        try:
            with connect() as client:
                while True:
                    found = ask(client)
                    answered = True
                    yield found
                    time.sleep(REFRESH_SECONDS)
        except (Unavailable, DeadlineExceeded) as error:
            if not answered:
                raise
            yield error
        time.sleep(REFRESH_SECONDS)


def show(console: Console, answers: Iterator[Answer | DwError], draw: Callable[[Answer, int], RenderableType]) -> None:
    """Refresh in place, until interrupted; `draw` is given the lines it may take. While nobody answers the last page
    stays, below a line that says so.
    """
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    last: Answer | None = None
    with Live(console=console, auto_refresh=False) as live:
        for found in answers:
            if not isinstance(found, DwError):
                last = found
                live.update(draw(last, console.height - 1), refresh=True)
            elif last is not None:
                told = Text(f"not up to date, trying other nodes: {found.message}", style="bold red")
                told.truncate(console.width, overflow="ellipsis")
                live.update(Group(told, draw(last, console.height - 2)), refresh=True)
