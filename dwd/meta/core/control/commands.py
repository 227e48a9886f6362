"""Commands of the control group. Each is judged in full before its first write; a refusal is committed and
remembered like any other result. Repeating one that already took effect changes nothing and succeeds, where that
can be told apart from a different request.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dwd.base.ids import ClusterId, DeviceId, LayoutEpoch, NodeId, ShardEpoch
from dwd.base.policy import Criticality, Tier
from dwd.meta.core.control.job_commands import JobCommand
from dwd.meta.core.control.key_commands import KeyCommand
from dwd.meta.core.control.rows import (
    PLAIN,
    AtRest,
    DeviceState,
    Domain,
    Liveness,
    NodeAddresses,
    NodeStanding,
    ShardRange,
    Standing,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialiseCluster:
    """The first command of a cluster's life. Same cluster id again: nothing happens. Refused: AlreadyExists."""

    cluster: ClusterId
    name: str
    authority_certificate: bytes
    sealed_authority_key: bytes = field(repr=False)
    keyring_version: int
    shards: tuple[ShardRange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddNode:
    """Admit a node. The same node with the same name again updates it. Refused: AlreadyExists (name taken),
    PermissionDenied meta.node_removed (a removed node comes back only as a newcomer, with another id).
    """

    node: NodeId
    name: str
    addresses: NodeAddresses
    domain: Domain
    sealing_key: bytes
    sealed_keyring: bytes
    keyring_version: int = 0
    """The active one of the sealed ring. Refused: Busy meta.keyring_stale unless it is the present one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateNode:
    """What a node says of itself at start. `version_newest` 0 (of a node that says nothing of it): the oldest.
    Refused: NotFound.
    """

    node: NodeId
    addresses: NodeAddresses
    domain: Domain
    version_newest: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNode:
    """Its rows go, its id is remembered as removed. Refused: SafetyRefused while it has devices that are not LOST or
    RETIRED, or while it is ACTIVE. Receipt.existed.
    """

    node: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNodeLiveness:
    """A transition, not a heartbeat. Refused: NotFound."""

    node: NodeId
    liveness: Liveness


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNodeStanding:
    """ACTIVE -> DRAINING -> DRAINED, and back to ACTIVE from both. Refused: NotFound; Conflict meta.node_not_draining
    (DRAINED of one that is ACTIVE); SafetyRefused meta.last_active_node.
    """

    node: NodeId
    standing: NodeStanding


@dataclass(frozen=True, slots=True, kw_only=True)
class AddDevice:
    """The same device on the same node again updates weight, capacity, rack and zone. Refused: NotFound (node),
    Conflict.
    """

    device: DeviceId
    node: NodeId
    weight: int
    capacity_bytes: int
    rack: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDeviceState:
    """What a device is able to do. Refused: NotFound; Conflict meta.device_gone (LOST and RETIRED are final: a device
    that returns is new); InvalidArgument: DRAINING is no ability but a wish (SetDeviceDraining).
    """

    device: DeviceId
    state: DeviceState
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDeviceDraining:
    """What an operator wants of a device; it holds until it is taken back. Refused: NotFound; Conflict
    meta.device_gone.
    """

    device: DeviceId
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLayout:
    """A layout to be looked at before it is applied; takes the place of another one that is staged. Compare-and-swap
    on `epoch` as ApplyLayout. Refused: Conflict meta.layout_epoch.
    """

    epoch: LayoutEpoch
    layout: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DropStagedLayout:
    """Receipt.existed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyLayout:
    """Compare-and-swap: `epoch` must be one more than the newest, and with a `staged_hash` the SHA-256 of what is
    staged must be it: that is applied then, and `layout` is empty. Whatever was staged is staged no more.
    Refused: Conflict meta.layout_epoch / meta.layout_staged, Busy.
    """

    epoch: LayoutEpoch
    layout: bytes
    staged_hash: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireLayouts:
    """Layouts below `below` hold no data any more: every shard is fenced and reports no block of them. The newest
    is never retired; of the retired ones the newest is kept, to go back to. Receipt.count.
    """

    below: LayoutEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBucket:
    """Refused: AlreadyExists objects.bucket_owned_by_you / objects.bucket_exists, NotFound (owner), Busy."""

    name: str
    owner: str
    profile: str
    at_rest: AtRest = PLAIN
    sealed_key: bytes = field(default=b"", repr=False)
    tier: Tier = Tier.CLUSTER
    criticality: Criticality = Criticality.NORMAL
    allow_fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBucketAtRest:
    """Of objects stored from now on, under a new epoch (Receipt.count) that the shards are to be told; nothing happens
    where it is so already. Refused: NotFound; Conflict meta.bucket_changed (`epoch`, if given, is not the present one,
    or the bucket is being deleted); NotFound objects.no_such_named_key.
    """

    name: str
    at_rest: AtRest
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBucketPolicy:
    """How the bucket's data is stored from now on, under a new epoch (Receipt.count), which the shards must be told
    (UnsealBucket). What it is already changes nothing and gives the present epoch. Refused: NotFound; Busy
    meta.bucket_sealed; Conflict meta.bucket_changed unless the bucket is at `expected_epoch`, if given.
    """

    name: str
    profile: str
    tier: Tier = Tier.CLUSTER
    criticality: Criticality = Criticality.NORMAL
    allow_fallback: bool = False
    expected_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginDeleteBucket:
    """State DELETING under a new epoch, which the shards are to be sealed with. Repeatable: a bucket that is DELETING
    keeps its epoch. Receipt.count: the epoch. Refused: NotFound; Conflict unless DELETING under `epoch`, if given.
    """

    name: str
    epoch: int = 0
    """To go on with a deletion that somebody else began; 0: whatever the bucket is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelDeleteBucket:
    """Back to ACTIVE under a new epoch (Receipt.count), which the shards must be told. Refused: NotFound, Conflict."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishDeleteBucket:
    """Remove a bucket that is DELETING under `epoch`. Repeatable. Refused: Conflict."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateUser:
    """Refused: AlreadyExists meta.user_exists."""

    name: str
    admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUserState:
    """Refused: NotFound."""

    name: str
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteUser:
    """With its access keys. Refused: NotFound; Conflict meta.user_owns_buckets."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAccessKey:
    """Refused: NotFound (user); AlreadyExists; Busy (more than a user may have)."""

    access_key: str
    user: str
    sealed_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAccessKeyState:
    """Refused: NotFound."""

    access_key: str
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAccessKey:
    """Receipt.existed."""

    access_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateJoinToken:
    """`digest` is SHA-256 of the token's secret half. Expired tokens are swept by the same command. Refused: Busy."""

    token: str
    digest: bytes
    expires_unix_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UseJoinToken:
    """Consume a token for one node; the same node may use it again. Refused: PermissionDenied
    meta.token_unknown / meta.token_expired / meta.token_used.
    """

    token: str
    node: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSetting:
    """An empty value removes it. Refused: Busy (too many); Conflict meta.setting_changed."""

    name: str
    value: str
    expected: str | None = None
    """Compare-and-swap: the value it must have now, empty for not set. None: whatever it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetShardMap:
    """Compare-and-swap: `epoch` must be one more than the present one. Refused: Conflict meta.shard_epoch."""

    epoch: ShardEpoch
    ranges: tuple[ShardRange, ...]


UserCommand = (
    CreateUser
    | SetUserState
    | DeleteUser
    | CreateAccessKey
    | SetAccessKeyState
    | DeleteAccessKey
    | CreateJoinToken
    | UseJoinToken
)
ControlCommand = (
    InitialiseCluster
    | AddNode
    | UpdateNode
    | RemoveNode
    | SetNodeLiveness
    | SetNodeStanding
    | AddDevice
    | SetDeviceState
    | SetDeviceDraining
    | StageLayout
    | DropStagedLayout
    | ApplyLayout
    | RetireLayouts
    | CreateBucket
    | SetBucketAtRest
    | BeginDeleteBucket
    | CancelDeleteBucket
    | FinishDeleteBucket
    | SetBucketPolicy
    | UserCommand
    | KeyCommand
    | SetSetting
    | SetShardMap
    | JobCommand
)
