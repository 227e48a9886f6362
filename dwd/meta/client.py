"""The node's way to its metadata: proposes commands, answers queries, wherever the group's members are.

Deadlines are absolute, on the injected clock's `monotonic`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dwd.base.ids import GroupId
from dwd.meta.core.control.commands import ControlCommand
from dwd.meta.core.query import Query
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import KeyedCommand, ShardCommand
from dwd.meta.core.shard.queries import ListAnswer, ListObjects, ListUploads, UploadsAnswer
from dwd.meta.view import ControlView

A = TypeVar("A")


class MetaClient:
    """One a node. Every call raises Unavailable, Busy, DeadlineExceeded or OutcomeUnknown besides the errors its
    command or query names. A command takes effect at most once, however often it had to be sent.
    """

    @property
    def view(self) -> ControlView:
        """This node's copy of control, for whatever may be a moment old."""
        raise NotImplementedError

    async def control(self, command: ControlCommand, *, deadline: float) -> Receipt:
        """Propose to the control group."""
        raise NotImplementedError

    async def keyed(self, command: KeyedCommand, *, deadline: float) -> Receipt:
        """Propose to the shard that owns the command's (bucket, key)."""
        raise NotImplementedError

    async def shard(self, group: GroupId, command: ShardCommand, *, deadline: float) -> Receipt:
        """Propose to a shard by its group."""
        raise NotImplementedError

    async def read(self, query: Query[A], *, deadline: float) -> A:
        """Linearizable answer: a keyed query from the owner of its (bucket, key), a control query from control."""
        raise NotImplementedError

    async def read_group(self, group: GroupId, query: Query[A], *, deadline: float) -> A:
        """Linearizable answer of one group."""
        raise NotImplementedError

    async def list_objects(self, query: ListObjects, *, deadline: float) -> ListAnswer:
        """A page over all shards that hold the bucket."""
        raise NotImplementedError

    async def list_uploads(self, query: ListUploads, *, deadline: float) -> UploadsAnswer:
        """A page over all shards that hold the bucket."""
        raise NotImplementedError

    async def delete_bucket(self, name: str, *, deadline: float) -> None:
        """Seal the shards, verify that nothing is left, remove. Raises NotFound, Conflict objects.bucket_not_empty."""
        raise NotImplementedError

    def leads(self, group: GroupId) -> bool:
        """Whether this node's replica leads the group now."""
        raise NotImplementedError

    def shards(self) -> tuple[GroupId, ...]:
        """All shard groups of the map."""
        raise NotImplementedError

    def random_id(self) -> int:
        """For `staged` of StageBlocks and PutPart."""
        raise NotImplementedError


Watcher = Callable[[], None]
