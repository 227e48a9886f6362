"""Which jobs a shard remembers."""

from __future__ import annotations

from dwd.base.ids import JobId
from dwd.meta.core.fencing import Fence
from dwd.meta.core.shard.fences import FLOOR, OVER
from dwd.meta.core.shard.queries import FencesAnswer
from dwd.meta.core.tx import Reader


def fences(reader: Reader) -> FencesAnswer:
    floor = reader.row("SELECT value FROM counters WHERE name = ?", (FLOOR,)) or (0,)
    rows = reader.rows("SELECT job, epoch FROM fences WHERE epoch < ? ORDER BY job", (OVER,))
    return FencesAnswer(floor=JobId(floor[0]), fences=tuple(Fence(job=JobId(job), epoch=epoch) for job, epoch in rows))
