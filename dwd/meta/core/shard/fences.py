"""The shard's memory of leases: HoldFence, SweepFences, and the check of every command that a job's step sends.

A shard does not know jobs. It keeps the highest epoch that it saw of each, and for those that are over the epoch OVER,
until `job_floor`, below which every job is over, has passed them: so no runner, however late it wakes, finds its
fence forgotten. At most FENCES_MAX rows: past it the sweep must come first.
"""

from __future__ import annotations

from dwd.base.errors import Busy
from dwd.meta.core.fencing import Fence, fenced
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import SweepFences
from dwd.meta.core.shard.state import Shard
from dwd.meta.core.tx import At

FENCES_MAX = 10_000
OVER = 1 << 62
FLOOR = "job_floor"


def check(shard: Shard, fence: Fence) -> None:
    """Raises Conflict job.fenced; Busy job.fences when there is no room to remember another job."""
    if fence.job < floor(shard):
        raise fenced(fence, 0)
    known = shard.tx.row("SELECT epoch FROM fences WHERE job = ?", (fence.job,))
    if known is not None:
        if known[0] > fence.epoch:
            raise fenced(fence, 0 if known[0] == OVER else known[0])
        return
    count = shard.tx.row("SELECT count(*) FROM fences") or (0,)
    if count[0] >= FENCES_MAX:
        raise Busy("job.fences", f"this shard remembers {FENCES_MAX} jobs, and there are older ones than they")


def keep(shard: Shard, fence: Fence) -> None:
    """After a `check`."""
    shard.tx.run(
        "INSERT INTO fences VALUES (?1, ?2) ON CONFLICT DO UPDATE SET epoch = ?2 WHERE epoch < ?2",
        (fence.job, fence.epoch),
    )


def hold_fence(at: At) -> Receipt:
    """What it is for is done by the fence that it was sent with."""
    return Receipt(index=at.index, stamp=at.stamp)


def sweep_fences(shard: Shard, command: SweepFences, at: At) -> Receipt:
    above = max(command.below, floor(shard))
    shard.tx.run("UPDATE counters SET value = ?1 WHERE name = ?2 AND value <> ?1", (above, FLOOR))
    shard.tx.run("DELETE FROM fences WHERE job < ?", (above,))
    removed = shard.tx.changed()
    for job in command.over:
        shard.tx.run("UPDATE fences SET epoch = ?1 WHERE job = ?2 AND epoch <> ?1", (OVER, job))
    return Receipt(index=at.index, stamp=at.stamp, count=removed)


def floor(shard: Shard) -> int:
    found: int = (shard.tx.row("SELECT value FROM counters WHERE name = ?", (FLOOR,)) or (0,))[0]
    return found
