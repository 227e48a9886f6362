"""A worker with a mailbox: blocking work that takes whatever waits at once. A port: a thread in the daemon, events of
virtual time in the simulator.

Invariant: turns never overlap, and see the items in the order of `put`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Turn = Callable[[T, Callable[[], T]], bool]
"""`turn(first, more)`: work on `first` and what `more` hands out, which raises `queue.Empty` when nothing waits. False:
the worker ends.
"""


class Mailbox(Protocol[T_contra]):
    """Of a worker that was started."""

    def put(self, item: T_contra) -> None:
        """Never waits."""
        ...


class StartWorker(Protocol):
    def __call__(self, name: str, turn: Turn[T]) -> Mailbox[T]: ...


def start_thread(name: str, turn: Turn[T]) -> Mailbox[T]:
    """`StartWorker` on a daemon thread of its own."""
    mailbox: queue.SimpleQueue[T] = queue.SimpleQueue()

    def run() -> None:
        while turn(mailbox.get(), mailbox.get_nowait):
            pass

    threading.Thread(target=run, name=name, daemon=True).start()
    return mailbox
