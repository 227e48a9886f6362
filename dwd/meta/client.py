"""The node's way to its metadata: proposes commands, answers queries, wherever the group's members are.

Deadlines are absolute, on the injected clock's `monotonic`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar, get_args

from dwd.base.clock import Clock, Rng
from dwd.base.errors import InvariantViolation
from dwd.base.ids import CONTROL_GROUP, ID_BITS, GroupId, LogIndex, NodeId
from dwd.meta import bucket_settings, deletion
from dwd.meta.core.apply import Checkpoint, SetVersion
from dwd.meta.core.control.commands import ControlCommand
from dwd.meta.core.control.rows import AtRest, shard_key
from dwd.meta.core.fencing import Fence
from dwd.meta.core.query import Query
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard import queries as shard_queries
from dwd.meta.core.shard.commands import KeyedCommand, ShardCommand
from dwd.meta.core.shard.queries import (
    GetCounts,
    KeyedQuery,
    ListAnswer,
    ListObjects,
    ListUploads,
    UploadsAnswer,
)
from dwd.meta.core.shard.ranges import successor
from dwd.meta.core.shard.rows import ShardCounts
from dwd.meta.local import Consensus, LocalGroups
from dwd.meta.peers import Peers
from dwd.meta.proposer import Proposer
from dwd.meta.router import Router
from dwd.meta.store.databases import Databases
from dwd.meta.store.row_hash import DEFINITION
from dwd.meta.view import ControlView
from dwd.raft.core.types import ZERO_INDEX

A = TypeVar("A")

_KEYED_QUERIES = get_args(KeyedQuery)


class MetaClient:
    """One a node. Every call raises Unavailable, Busy, DeadlineExceeded or OutcomeUnknown besides the errors its
    command or query names. A command takes effect at most once, however often it had to be sent.
    """

    def __init__(
        self, *, node: NodeId, host: Consensus, databases: Databases, peers: Peers, clock: Clock, rng: Rng
    ) -> None:
        """On the running event loop."""
        self._rng = rng
        self._host = host
        self._databases = databases
        self._counts: dict[GroupId, tuple[LogIndex, ShardCounts]] = {}
        self._view = ControlView(host, databases, clock)
        self._router = Router(
            node=node,
            host=host,
            local=LocalGroups(host, databases),
            peers=peers,
            view=self._view,
            clock=clock,
            rng=rng,
        )
        self._proposer = Proposer(self._router, rng, clock, version_of=databases.version)

    @property
    def view(self) -> ControlView:
        """This node's copy of control, for whatever may be a moment old."""
        return self._view

    async def control(self, command: ControlCommand, *, deadline: float, fence: Fence | None = None) -> Receipt:
        """Propose to the control group. `fence`: on behalf of a job, under that lease only."""
        return await self._proposer.propose(CONTROL_GROUP, command, deadline=deadline, fence=fence)

    async def keyed(self, command: KeyedCommand, *, deadline: float) -> Receipt:
        """Propose to the shard that owns the command's (bucket, key)."""
        group = self._view.group_of(command.bucket, command.key)
        return await self._proposer.propose(group, command, deadline=deadline)

    async def shard(
        self, group: GroupId, command: ShardCommand, *, deadline: float, fence: Fence | None = None
    ) -> Receipt:
        """Propose to a shard by its group. `fence`: on behalf of a job, under that lease or a newer one only."""
        return await self._proposer.propose(group, command, deadline=deadline, fence=fence)

    async def checkpoint(self, group: GroupId, *, deadline: float) -> Receipt:
        """Have every replica record its state hash, at the index of the receipt."""
        return await self._proposer.propose(group, Checkpoint(definition=DEFINITION), deadline=deadline)

    async def set_version(self, group: GroupId, version: int, *, deadline: float) -> Receipt:
        """Raise the group's active version to this one, by one."""
        return await self._proposer.propose(group, SetVersion(version=version), deadline=deadline)

    def version(self, group: GroupId) -> int:
        """The group's active version, or an earlier one where this node has no copy."""
        return self._databases.version(group)

    async def read(self, query: Query[A], *, deadline: float) -> A:
        """Linearizable answer: a keyed query from the owner of its (bucket, key), a control query from control."""
        if isinstance(query, _KEYED_QUERIES):
            group = self._view.group_of(query.bucket, query.key)
        elif type(query).__module__ == shard_queries.__name__:
            raise InvariantViolation(f"{type(query).__name__} has no key: ask a group")
        else:
            group = CONTROL_GROUP
        return await self._router.answer(group, query, deadline=deadline)

    async def read_group(self, group: GroupId, query: Query[A], *, deadline: float) -> A:
        """Linearizable answer of one group."""
        return await self._router.answer(group, query, deadline=deadline)

    async def list_objects(self, query: ListObjects, *, deadline: float) -> ListAnswer:
        """A page over all shards that hold the bucket."""
        limit = min(query.limit, shard_queries.QUERY_PAGE_MAX)
        answer = ListAnswer(objects=(), prefixes=(), truncated=False, next_after="")
        for group in self._holders(query.bucket, query.prefix, query.after):
            left = limit - len(answer.objects) - len(answer.prefixes)
            if left <= 0:
                return replace(answer, truncated=True)
            page = await self._router.answer(group, replace(query, limit=left), deadline=deadline)
            shared = set(answer.prefixes)
            answer = ListAnswer(
                objects=answer.objects + page.objects,
                prefixes=answer.prefixes + tuple(p for p in page.prefixes if p not in shared),
                truncated=page.truncated,
                next_after=_greatest(page, answer.next_after),
            )
            if page.truncated:
                break
        return answer if answer.truncated else replace(answer, next_after="")

    async def list_uploads(self, query: ListUploads, *, deadline: float) -> UploadsAnswer:
        """A page over all shards that hold the bucket."""
        limit = min(query.limit, shard_queries.QUERY_PAGE_MAX)
        answer = UploadsAnswer(uploads=(), prefixes=(), truncated=False)
        for group in self._holders(query.bucket, query.prefix, query.after_key):
            left = limit - len(answer.uploads) - len(answer.prefixes)
            if left <= 0:
                return replace(answer, truncated=True)
            page = await self._router.answer(group, replace(query, limit=left), deadline=deadline)
            shared = set(answer.prefixes)
            answer = UploadsAnswer(
                uploads=answer.uploads + page.uploads,
                prefixes=answer.prefixes + tuple(p for p in page.prefixes if p not in shared),
                truncated=page.truncated,
            )
            if page.truncated:
                break
        return answer

    async def delete_bucket(self, name: str, *, deadline: float, begun_under: int = 0) -> None:
        """Seal the shards, verify that nothing is left, remove. Raises NotFound, Conflict objects.bucket_not_empty.
        `begun_under`: go on with the deletion of that epoch, or Conflict.
        """
        await deletion.delete_bucket(self, name, deadline=deadline, begun_under=begun_under)

    async def set_bucket_at_rest(self, name: str, at_rest: AtRest, *, deadline: float) -> None:
        """How objects of the bucket lie from now on; done once every shard knows. Raises NotFound, Conflict."""
        await bucket_settings.set_at_rest(self, name, at_rest, deadline=deadline)

    def leads(self, group: GroupId) -> bool:
        """Whether this node's replica leads the group now."""
        return self._router.leads(group)

    def shards(self) -> tuple[GroupId, ...]:
        """All shard groups of the map; none before the cluster is initialised, or this copy of control knows of it."""
        return tuple(dict.fromkeys(r.group for r in self._view.topology().shard_map.ranges))

    def position(self, group: GroupId) -> LogIndex:
        """What this node's replica of the group has applied; 0 without one."""
        return self._host.applied(group)

    async def counts(self, group: GroupId, *, deadline: float) -> ShardCounts:
        """`GetCounts` of a shard; while it is led here and has not changed, what was found before."""
        position = self.position(group) if self.leads(group) else ZERO_INDEX
        known = self._counts.get(group)
        if known is not None and known[0] == position and position:
            return known[1]
        found = await self.read_group(group, GetCounts(), deadline=deadline)
        self._counts[group] = (position, found)
        return found

    def holders(self, bucket: str) -> tuple[GroupId, ...]:
        """The shards that hold keys of the bucket."""
        return tuple(dict.fromkeys(self._holders(bucket, "", "")))

    def random_id(self) -> int:
        """For `staged` of StageBlocks and PutPart."""
        return self._rng.bits(ID_BITS) | 1

    def leave(self, seconds: float) -> None:
        """The node stops: calls that found no leader within `seconds` fail then, whatever their deadline."""
        self._router.leave(seconds)

    def close(self) -> None:
        self._router.close()

    def _holders(self, bucket: str, prefix: str, after: str) -> Iterator[GroupId]:
        """Groups whose range may hold keys of the bucket with the prefix, in order, from the one holding `after`."""
        first = shard_key(bucket, max(prefix, after) if after.startswith(prefix) else prefix)
        end = successor(shard_key(bucket, prefix))
        ranges = self._view.shard_ranges()
        for at, held in enumerate(ranges):
            next_start = ranges[at + 1].start if at + 1 < len(ranges) else None
            if (next_start is None or next_start > first) and held.start < end:
                yield held.group


def _greatest(page: ListAnswer, before: str) -> str:
    """Where a page that is full goes on, also when its shard had no more."""
    keys = [page.next_after or before]
    keys += [page.objects[-1].key] if page.objects else []
    keys += [page.prefixes[-1]] if page.prefixes else []
    return max(keys, key=str.encode)
