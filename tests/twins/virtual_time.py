"""An event loop whose time jumps to the next timer instead of passing, and a clock and dice that go with it.

Hours of back-off run in milliseconds and always the same way. For code that waits only on the loop's own timers and
events: with sockets or threads the loop would run ahead of them.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - the seeded twin of dwd.base.clock.Rng
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH_MS = 1_700_000_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("nothing will ever happen: everybody waits without a timer")
        if timeout > 0:
            # The loop's own rounding must not leave a timer a hair in the future.
            self._loop.jump(timeout + 1e-9)
        return ready


class VirtualClock:
    """`dwd.base.clock.Clock` over the running loop's time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def unix_ms(self) -> int:
        return EPOCH_MS + int(self.monotonic() * 1000)


class SeededRng:
    """`dwd.base.clock.Rng` that draws the same every time."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def bits(self, count: int) -> int:
        return self._random.getrandbits(count)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on a VirtualLoop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
