"""Who takes which job: every node looks at the same rows and works out the same order of nodes for each job.

The first of a job's order takes it at once, the second a turn later, and so on: two nodes rarely ask for one lease, and
none has to appoint anybody. What decides is the command; this only saves refusals and spreads the work.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence

from dwd.base.ids import JobId, NodeId
from dwd.meta.core.control.job_rows import LEASABLE, JobRow

TURN_SECONDS = 1.0
TURNS_MAX = 8
"""With many nodes, those behind take the same turn as the last."""


def leasable(row: JobRow, node: NodeId, now_ms: int, up: Collection[NodeId]) -> bool:
    """Whether a lease would be granted, as far as this copy knows."""
    free = row.runner in {0, node} or row.lease_until < now_ms or row.runner not in up
    return row.state in LEASABLE and free


def turn_seconds(row: JobRow, node: NodeId, *, rows: Sequence[JobRow], up: Collection[NodeId]) -> float:
    """How long `node` leaves a job that could be leased to others: those that run fewest jobs come first. Whoever let
    its lease lapse comes last.
    """
    running = Counter(other.runner for other in rows if other.job != row.job)
    order = sorted(up, key=lambda n: (n == row.runner, running[n], _lot(row.job, row.epoch, n)))
    turn = order.index(node) if node in order else len(order)
    return TURN_SECONDS * min(turn, TURNS_MAX)


def _lot(job: JobId, epoch: int, node: NodeId) -> bytes:
    return hashlib.blake2b(f"{job} {epoch} {node}".encode(), digest_size=8).digest()
