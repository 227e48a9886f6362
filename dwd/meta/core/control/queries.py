"""Questions to control. Every node holds control, so these are read locally, mostly through `ControlView`."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.ids import DeviceId, LayoutEpoch, NodeId
from dwd.meta.core.control.rows import (
    AccessKeyRow,
    BoxKind,
    BucketRow,
    ClusterRow,
    DeviceRow,
    JoinTokenRow,
    LayoutRow,
    NamedKeyRow,
    NodeRow,
    RemovedNodeRow,
    SealedBox,
    SettingRow,
    ShardMap,
    StagedLayoutRow,
    UserRow,
)
from dwd.meta.core.query import Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Everything placement and membership look at, from one transaction."""

    cluster: ClusterRow | None
    nodes: tuple[NodeRow, ...]
    devices: tuple[DeviceRow, ...]
    layouts: tuple[LayoutRow, ...]
    shard_map: ShardMap
    settings: tuple[SettingRow, ...]
    removed: tuple[RemovedNodeRow, ...] = ()
    staged_layout: StagedLayoutRow | None = None

    @property
    def layout(self) -> LayoutRow | None:
        """The newest."""
        return self.layouts[-1] if self.layouts else None

    def layout_of(self, epoch: LayoutEpoch) -> LayoutRow | None:
        return next((row for row in self.layouts if row.epoch == epoch), None)

    def node(self, node: NodeId) -> NodeRow | None:
        return next((row for row in self.nodes if row.node == node), None)

    def device(self, device: DeviceId) -> DeviceRow | None:
        return next((row for row in self.devices if row.device == device), None)

    def setting(self, name: str) -> str:
        """Empty when not set."""
        return next((row.value for row in self.settings if row.name == name), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTopology(Query[Topology]):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAnswer:
    bucket: BucketRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBucket(Query[BucketAnswer]):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketsAnswer:
    buckets: tuple[BucketRow, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBuckets(Query[BucketsAnswer]):
    """By name after `after`; of one owner unless `owner` is empty."""

    owner: str = ""
    after: str = ""
    limit: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedKeysAnswer:
    keys: tuple[NamedKeyRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListNamedKeys(Query[NamedKeysAnswer]):
    """All, by name: there are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxesAnswer:
    boxes: tuple[SealedBox, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBoxes(Query[BoxesAnswer]):
    """What of one kind is sealed with the cluster keyring, by name after `after`."""

    kind: BoxKind
    after: str = ""
    limit: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAnswer:
    user: UserRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetUser(Query[UserAnswer]):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersAnswer:
    users: tuple[UserRow, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListUsers(Query[UsersAnswer]):
    after: str = ""
    limit: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKeyAnswer:
    """Both None: unknown."""

    key: AccessKeyRow | None
    user: UserRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetAccessKey(Query[AccessKeyAnswer]):
    access_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKeysAnswer:
    keys: tuple[AccessKeyRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAccessKeys(Query[AccessKeysAnswer]):
    """A user's, by creation."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTokenAnswer:
    token: JoinTokenRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetJoinToken(Query[JoinTokenAnswer]):
    token: str
