"""This node's copy of control, read in place: for authentication, routing and placement, which may be a moment old.

Hazard: a copy that lost contact would honour revoked keys for ever; `require_fresh` refuses after FRESHNESS_SECONDS.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from typing import Generic, TypeVar

from dwd.base.clock import Clock
from dwd.base.errors import DwError, NotFound, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, JobId
from dwd.meta.core.control import keys, read, read_jobs
from dwd.meta.core.control.job_rows import JobRow
from dwd.meta.core.control.queries import AccessKeyAnswer, ListBuckets, Topology
from dwd.meta.core.control.rows import BucketRow, NamedKeyRow, ShardRange, UserRow, shard_key
from dwd.meta.core.control.state import Part
from dwd.meta.core.tx import Reader
from dwd.meta.local import Consensus
from dwd.meta.store.databases import Databases

A = TypeVar("A")

FRESHNESS_SECONDS = 5.0
CHECK_SECONDS = 0.25
"""A copy found fresh is trusted so long before it is looked at again."""
WATCHED = frozenset(Part) - {Part.JOBS}
"""What a watcher is told of unless it says otherwise: jobs change each second while one runs."""
CACHED_MAX = 10_000
"""Buckets, users and keys remembered, each; past it the cache starts anew."""


class ControlView:
    """Point reads and cached snapshots of the local control database. All calls are on the event loop and short.

    Everything but `require_fresh` raises Unavailable while this node has no copy of control.
    """

    def __init__(self, host: Consensus, databases: Databases, clock: Clock) -> None:
        self._host = host
        self._databases = databases
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._fresh_until = 0.0
        self._versions = dict.fromkeys(Part, 0)
        self._topology: tuple[int, Topology] | None = None
        self._jobs: tuple[int, tuple[JobRow, ...]] | None = None
        self._starts: tuple[Topology, list[bytes]] | None = None
        self._named_keys: tuple[int, dict[str, NamedKeyRow]] | None = None
        self._buckets = _Cache[BucketRow | None]()
        self._users = _Cache[UserRow | None]()
        self._keys = _Cache[AccessKeyAnswer]()
        self._watchers: dict[int, tuple[frozenset[Part], Callable[[], None]]] = {}
        self._next_watcher = 0
        self._changed_parts: set[Part] = set()
        databases.on_changed(self._changed)

    def require_fresh(self) -> None:
        """Raises Unavailable meta.control_stale when no leader of control was heard for FRESHNESS_SECONDS."""
        now = self._clock.monotonic()
        if now < self._fresh_until:
            return
        if not self._is_fresh():
            raise Unavailable(
                "meta.control_stale", f"this node has not heard from the cluster for {FRESHNESS_SECONDS:g} s"
            )
        self._fresh_until = now + CHECK_SECONDS

    def topology(self) -> Topology:
        """The same object until something in it changes."""
        version = self._versions[Part.TOPOLOGY]
        if self._topology is None or self._topology[0] != version:
            self._topology = (version, self._read(read.topology))
        return self._topology[1]

    def topology_or_none(self) -> Topology | None:
        """None while this node has no copy of control."""
        try:
            return self.topology()
        except DwError:
            return None

    def bucket(self, name: str) -> BucketRow | None:
        return self._buckets.get(
            name, self._versions[Part.BUCKETS], lambda: self._read(lambda reader: read.bucket(reader, name))
        )

    def buckets(self, owner: str = "") -> tuple[BucketRow, ...]:
        """All, or of one owner, by name."""
        found: list[BucketRow] = []
        while True:
            query = ListBuckets(owner=owner, after=found[-1].name if found else "")
            page = self._page(query)
            found += page[0]
            if not page[1]:
                return tuple(found)

    def deleting_buckets(self) -> tuple[BucketRow, ...]:
        """By name."""
        return self._read(read.deleting_buckets)

    def named_key(self, name: str) -> NamedKeyRow | None:
        version = self._versions[Part.BUCKETS]
        if self._named_keys is None or self._named_keys[0] != version:
            self._named_keys = (version, {row.name: row for row in self._read(keys.named_keys)})
        return self._named_keys[1].get(name)

    def user(self, name: str) -> UserRow | None:
        return self._users.get(
            name, self._versions[Part.USERS], lambda: self._read(lambda reader: read.user(reader, name))
        )

    def access_key(self, access_key: str) -> AccessKeyAnswer:
        return self._keys.get(
            access_key,
            self._versions[Part.USERS],
            lambda: self._read(lambda reader: read.access_key(reader, access_key)),
        )

    def group_of(self, bucket: str, key: str) -> GroupId:
        """The shard that owns (bucket, key). Raises Unavailable as `shard_ranges` does."""
        ranges = self.shard_ranges()
        topology = self.topology()
        if self._starts is None or self._starts[0] is not topology:
            self._starts = (topology, [r.start for r in ranges])
        return ranges[bisect_right(self._starts[1], shard_key(bucket, key)) - 1].group

    def shard_ranges(self) -> tuple[ShardRange, ...]:
        """All keys, by shard. Raises Unavailable before the cluster is initialised, and while this copy has not heard
        of that: right after a start it may stand at an earlier time.
        """
        ranges = self.topology().shard_map.ranges
        if not ranges:
            raise Unavailable("meta.no_shards", "this node does not know yet which shards there are")
        return ranges

    def live_jobs(self) -> tuple[JobRow, ...]:
        """Oldest first; the same object until one changes."""
        version = self._versions[Part.JOBS]
        if self._jobs is None or self._jobs[0] != version:
            self._jobs = (version, self._read(read_jobs.live_jobs))
        return self._jobs[1]

    def job(self, job: JobId) -> JobRow | None:
        return self._read(lambda reader: read_jobs.job(reader, job)).job

    def watch(self, callback: Callable[[], None], parts: frozenset[Part] = WATCHED) -> Callable[[], None]:
        """Call on the event loop after one of these parts of control changed (coalesced); returns what ends it."""
        number = self._next_watcher
        self._next_watcher += 1
        self._watchers[number] = (parts, callback)

        def stop() -> None:
            self._watchers.pop(number, None)

        return stop

    def _page(self, query: ListBuckets) -> tuple[tuple[BucketRow, ...], bool]:
        answer = self._read(lambda reader: read.buckets(reader, query))
        return answer.buckets, answer.more

    def _read(self, work: Callable[[Reader], A]) -> A:
        return self._databases.readers(CONTROL_GROUP).inside(work)

    def _is_fresh(self) -> bool:
        try:
            status = self._host.status(CONTROL_GROUP)
        except NotFound:
            return False
        if status.failed is not None or not status.leader_node:
            return False
        return status.leader == status.replica or self._host.last_contact(status.leader_node) <= FRESHNESS_SECONDS

    def _changed(self, parts: frozenset[Part]) -> None:
        """On the group's thread, after its commit: caches are void at once, watchers are told on the loop."""
        for part in parts:
            self._versions[part] += 1
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell_soon, parts)

    def _tell_soon(self, parts: frozenset[Part]) -> None:
        if not self._changed_parts:
            self._loop.call_soon(self._tell)
        self._changed_parts |= parts

    def _tell(self) -> None:
        changed = frozenset(self._changed_parts)
        self._changed_parts.clear()
        for parts, callback in list(self._watchers.values()):
            if parts & changed:
                callback()


class _Cache(Generic[A]):
    """Answers of one version of their part; bounded."""

    def __init__(self) -> None:
        self._known: dict[str, A] = {}
        self._version = -1

    def get(self, name: str, version: int, find: Callable[[], A]) -> A:
        if self._version != version or len(self._known) >= CACHED_MAX:
            self._known.clear()
            self._version = version
        if name in self._known:
            return self._known[name]
        found = self._known[name] = find()
        return found
