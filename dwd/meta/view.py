"""This node's copy of control, read in place: for authentication, routing and placement, which may be a moment old.

Hazard: a copy that lost contact would honour revoked keys for ever; `fresh` refuses after FRESHNESS_SECONDS.
"""

from __future__ import annotations

from collections.abc import Callable

from dwd.base.ids import GroupId
from dwd.meta.core.control.queries import AccessKeyAnswer, Topology
from dwd.meta.core.control.rows import BucketRow, UserRow

FRESHNESS_SECONDS = 5.0


class ControlView:
    """Point reads and cached snapshots of the local control database. All calls are on the event loop and short."""

    def require_fresh(self) -> None:
        """Raises Unavailable meta.control_stale when no leader of control was heard for FRESHNESS_SECONDS."""
        raise NotImplementedError

    def topology(self) -> Topology:
        """The same object until something in it changes."""
        raise NotImplementedError

    def bucket(self, name: str) -> BucketRow | None:
        raise NotImplementedError

    def buckets(self, owner: str = "") -> tuple[BucketRow, ...]:
        """All, or of one owner, by name."""
        raise NotImplementedError

    def user(self, name: str) -> UserRow | None:
        raise NotImplementedError

    def access_key(self, access_key: str) -> AccessKeyAnswer:
        raise NotImplementedError

    def group_of(self, bucket: str, key: str) -> GroupId:
        """The shard that owns (bucket, key). Raises Unavailable before the cluster is initialised."""
        raise NotImplementedError

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call on the event loop after control changed (coalesced); returns what ends it."""
        raise NotImplementedError
