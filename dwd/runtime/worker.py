"""The one contract of all background work: repair, scrub, collection, compaction, reconciliation.

A worker does a little when asked and says whether there is more. Its runner owns pace, errors and shutdown, so no
worker sleeps, loops or catches on its own. Seen and tuned through `dwctl worker list`.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Progress(Enum):
    """What one `work` call found."""

    BUSY = "busy"
    """Did something and there is more: call again as soon as the pace allows."""
    THROTTLED = "throttled"
    """There is more, but a limit says wait: call again after a pause."""
    IDLE = "idle"
    """Nothing to do: call again after the idle interval, or when woken."""


class Worker(Protocol):
    """Background work of one kind."""

    @property
    def name(self) -> str:
        """Stable, lower case with dots: "blocks.repair"."""
        ...

    @property
    def idle_seconds(self) -> float:
        """How long to rest after IDLE unless woken."""
        ...

    async def work(self) -> Progress:
        """Do one bounded piece. Cancellation-safe. DwError is recorded and retried with back-off."""
        ...
