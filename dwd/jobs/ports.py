"""What jobs need of metadata: `dwd.meta.client.MetaClient` has it, and so does a twin in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from dwd.base.ids import GroupId, JobId
from dwd.meta.core.control.commands import ControlCommand
from dwd.meta.core.control.job_rows import JobRow
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.state import Part
from dwd.meta.core.fencing import Fence
from dwd.meta.core.query import Query
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import ShardCommand

A = TypeVar("A")


class JobView(Protocol):
    """This node's copy of control, which may be a moment old."""

    def live_jobs(self) -> tuple[JobRow, ...]: ...

    def job(self, job: JobId) -> JobRow | None: ...

    def topology(self) -> Topology: ...

    def watch(self, callback: Callable[[], None], parts: frozenset[Part]) -> Callable[[], None]: ...


class JobMeta(Protocol):
    """Proposals and linearizable answers."""

    @property
    def view(self) -> JobView: ...

    async def control(self, command: ControlCommand, *, deadline: float, fence: Fence | None = None) -> Receipt: ...

    async def shard(
        self, group: GroupId, command: ShardCommand, *, deadline: float, fence: Fence | None = None
    ) -> Receipt: ...

    async def read(self, query: Query[A], *, deadline: float) -> A: ...

    async def read_group(self, group: GroupId, query: Query[A], *, deadline: float) -> A: ...

    def leads(self, group: GroupId) -> bool: ...

    def shards(self) -> tuple[GroupId, ...]: ...
