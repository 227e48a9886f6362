"""Rows of the control group as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from dwd.base.ids import ClusterId, DeviceId, GroupId, LayoutEpoch, NodeId, ShardEpoch, Stamp
from dwd.base.policy import Criticality, Policy, Tier

ZERO_STAMP = Stamp(0)


class Liveness(IntEnum):
    UP = 0
    DOWN = 1


class DeviceState(IntEnum):
    ACTIVE = 0
    """Holds data and takes new fragments."""
    FAILED = 1
    """I/O errors or a missing directory; its node is there. Never written to."""
    LOST = 2
    """Given up: what it held is rebuilt elsewhere."""
    RETIRED = 3
    """Emptied on purpose."""
    DRAINING = 4
    """ACTIVE, and to be emptied: it is read, takes no new fragments and stands in no new layout."""
    READ_ONLY = 5
    """Its file system takes no writes any more: it is read, and what it holds is moved elsewhere."""


class NodeStanding(IntEnum):
    """What an operator wants of a node; whether it answers is its liveness."""

    ACTIVE = 0
    DRAINING = 1
    """Takes nothing new: what it holds, data and votes, moves to others. Its gateway serves on."""
    DRAINED = 2
    """Holds nothing that anybody needs, and may be removed."""


class BucketState(IntEnum):
    ACTIVE = 0
    DELETING = 1
    """Shards are being sealed and checked for emptiness; refuses writes, may become ACTIVE again."""


class Encryption(IntEnum):
    """What a bucket asks of new objects whose request says nothing of it."""

    OFF = 0
    """Blocks as they are; inline bytes are sealed in any case."""
    ON = 1
    """Under a data key of the object, wrapped by the bucket's."""
    NAMED_KEY = 2
    """Wrapped by a named key of the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRest:
    """How the objects of a bucket lie on devices."""

    compression: int = 0
    """A zstd level; 0 is off."""
    encryption: Encryption = Encryption.OFF
    named_key: str = ""


PLAIN = AtRest()
"""Blocks as they are."""


class Standing(IntEnum):
    """Of users and access keys."""

    ENABLED = 0
    DISABLED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddresses:
    """host:port of each listener as other nodes and clients reach it."""

    grpc: str
    s3: str
    admin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Failure domains, largest first; the node itself is the smallest."""

    region: str = ""
    zone: str = ""
    rack: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    node: NodeId
    name: str
    addresses: NodeAddresses
    domain: Domain
    sealing_key: bytes
    """The node's public key to which cluster keys are sealed."""
    sealed_keyring: bytes
    liveness: Liveness
    liveness_since: Stamp
    joined: Stamp
    version_newest: int = 1
    """Of commands, that its binary knows."""
    standing: NodeStanding = NodeStanding.ACTIVE
    standing_since: Stamp = ZERO_STAMP


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedNodeRow:
    """A node that was removed: its certificate is refused wherever this is known, its id never joins again."""

    node: NodeId
    name: str
    removed: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    device: DeviceId
    node: NodeId
    weight: int
    """GiB of capacity, or what the operator said."""
    capacity_bytes: int
    state: DeviceState
    state_since: Stamp
    reason: str
    rack: str
    """Overrides the node's rack when not empty (a shelf of disks may be a domain of its own)."""
    zone: str = ""
    """Overrides the node's zone when not empty."""
    draining: bool = False
    """To be emptied, whatever becomes of it meanwhile: a device that fails and returns goes on draining."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutRow:
    """`layout` is opaque here (dwd.blocks.core). All layouts that some block row may still name are kept, and of those
    that none names (`retired`) the newest.
    """

    epoch: LayoutEpoch
    layout: bytes
    applied: Stamp
    retired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedLayoutRow:
    """A layout that waits for an operator."""

    epoch: LayoutEpoch
    layout: bytes
    staged: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRow:
    name: str
    owner: str
    profile: str
    state: BucketState
    epoch: int
    """Log index of the last change that shards must know; every shard command carries it."""
    created: Stamp
    at_rest: AtRest = PLAIN
    sealed_key: bytes = field(default=b"", repr=False)
    """The bucket's key, sealed with the cluster keyring (dwd.security.data_keys)."""
    tier: Tier = Tier.CLUSTER
    criticality: Criticality = Criticality.NORMAL
    allow_fallback: bool = False

    @property
    def policy(self) -> Policy:
        return Policy(
            profile=self.profile, tier=self.tier, criticality=self.criticality, allow_fallback=self.allow_fallback
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    name: str
    admin: bool
    standing: Standing
    created: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKeyRow:
    access_key: str
    user: str
    sealed_secret: bytes = field(repr=False)
    """Sealed with the cluster keyring by whoever created the key; context: the access key id."""
    standing: Standing
    created: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedKeyRow:
    """A key that objects may be encrypted with by name."""

    name: str
    standing: Standing
    created: Stamp
    sealed_key: bytes = field(repr=False)
    """Sealed with the cluster keyring (dwd.security.data_keys)."""


class BoxKind(IntEnum):
    """What in control is sealed with the cluster keyring."""

    AUTHORITY = 0
    ACCESS_KEY = 1
    BUCKET = 2
    NAMED_KEY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBox:
    """`name`: of the access key, bucket or named key; empty for the authority's."""

    kind: BoxKind
    name: str
    box: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxChange:
    kind: BoxKind
    name: str
    old: bytes = field(repr=False)
    new: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRing:
    """The keyring in a box that only this node opens."""

    node: NodeId
    box: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTokenRow:
    token: str
    """The token's id; the secret half is only in the operator's hands, as a digest here."""
    digest: bytes
    expires_unix_ms: int
    used_by: NodeId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRange:
    """`group` owns keys from `start` (see `shard_key`) up to the next range's start."""

    start: bytes
    group: GroupId


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMap:
    """Ranges in order of start; the first starts at b""."""

    epoch: ShardEpoch
    ranges: tuple[ShardRange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRow:
    cluster: ClusterId
    name: str
    authority_certificate: bytes
    """PEM of the cluster's certificate authority; public."""
    sealed_authority_key: bytes
    keyring_version: int
    created: Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    name: str
    value: str
    changed: Stamp


def shard_key(bucket: str, key: str) -> bytes:
    """Where (bucket, key) lies in the order of shards: bucket names hold no NUL, so buckets never interleave."""
    return bucket.encode() + b"\0" + key.encode()
