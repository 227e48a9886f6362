"""The sections of dwd.toml. Every field says what it is for: `deploy/dwd.toml` is written from these descriptions."""

from __future__ import annotations

import socket
from enum import Enum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from dwd.base import limits
from dwd.base.balance import Strategy
from dwd.base.units import GIB, KIB, MIB
from dwd.config.values import Address, Name, Size


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _host_name() -> str:
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in socket.gethostname().lower().partition(".")[0])
    return name.strip("._-")[:63] or "node"


class Node(Section):
    """Who this node is and where it keeps its data."""

    name: Name = Field(
        default_factory=_host_name,
        description="What people call this node, unique in the cluster. Default: this machine's host name.",
    )
    data_dir: Path = Field(
        default=Path("/var/lib/dwd/data"), description="Raft log, metadata databases and, by default, the one device."
    )
    identity_dir: Path = Field(
        default=Path("/var/lib/dwd/identity"),
        description="Certificate and keys of this node. Outside data_dir, so that a node whose data was wiped or whose "
        "disk was replaced is still the same node.",
    )
    region: Name = Field(
        default="local",
        description="Region: a whole cluster with its own consensus. All nodes of a cluster say the same.",
    )
    zone: Name = Field(
        default="default",
        description="Failure domain that data is spread over first: a room, a power feed, an availability zone.",
    )
    rack: str = Field(default="", max_length=63, description="Failure domain inside the zone; empty: the node itself.")


class Listen(Section):
    """Addresses as host:port; IPv6 in brackets. Port 0 takes a free one (development only)."""

    grpc: Address = Field(
        default=Address(host="127.0.0.1", port=7400),
        description="Other nodes and dwctl; always mutual TLS with the cluster's own certificates.",
    )
    s3: Address = Field(default=Address(host="127.0.0.1", port=7480), description="S3 clients.")
    admin: Address = Field(
        default=Address(host="127.0.0.1", port=7490),
        description="/metrics, /health/live, /health/ready. Keep it away from the internet.",
    )
    advertise: Address | None = Field(
        default=None,
        description="The gRPC address that other nodes are told to call. Default: listen.grpc; "
        "needed when that is a wildcard such as 0.0.0.0.",
    )


class Tls(Section):
    """Certificates for the two HTTP listeners (PEM files, re-read when they change); without them they talk plain HTTP.

    gRPC is not concerned: its certificates come from the cluster's own authority.
    """

    s3_certificate: Path | None = Field(default=None, description="Certificate chain for the S3 listener.")
    s3_key: Path | None = Field(default=None, description="Its private key; readable by dwd only.")
    admin_certificate: Path | None = Field(default=None, description="Certificate chain for the admin listener.")
    admin_key: Path | None = Field(default=None, description="Its private key; readable by dwd only.")


class Device(Section):
    """One directory on one disk, repeated for each disk. Without any: one device at data_dir/devices/d0."""

    path: Path = Field(description="Directory, the whole disk's best.")
    weight: float = Field(
        default=1.0, ge=0, le=1_000_000, description="Share of the data relative to other devices; 0 drains it."
    )
    zone: str = Field(
        default="", max_length=64, description="Failure domain, where it is not the node's (a disk shelf elsewhere)."
    )
    rack: str = Field(default="", max_length=64, description="Failure domain inside the zone, where not the node's.")


class S3(Section):
    """The S3 API."""

    region: str = Field(
        default="us-east-1", pattern=r"^[a-z0-9-]{1,32}$", description="The region name that clients sign for."
    )
    domain: str = Field(
        default="",
        pattern=r"^([a-z0-9-]+(\.[a-z0-9-]+)*)?$",
        description="Suffix for virtual-host style requests (bucket.DOMAIN); empty: path style only.",
    )
    default_profile: str = Field(
        default="auto",
        pattern=r"^(auto|replica-[1-5]|rs-[0-9]{1,2}-[0-9])$",
        description="How new buckets store objects: rs-4-2 (4 data and 2 parity fragments), replica-3, or auto, which "
        "picks by the number of nodes.",
    )
    inline_bytes_max: Size = Field(
        default=limits.INLINE_BYTES_DEFAULT,
        ge=0,
        le=limits.INLINE_BYTES_MAX,
        description="Objects up to this size live in the metadata instead of in blocks: one round instead of two.",
    )
    requests_max: int = Field(
        default=512, ge=1, le=100_000, description="Requests in progress; more are told to slow down (503)."
    )
    customer_keys_over_http: bool = Field(
        default=False,
        description="Accept keys of customers (SSE-C) without TLS: where something in front of the gateway does it.",
    )
    header_line_bytes_max: Size = Field(
        default=16 * KIB, ge=8 * KIB, le=64 * KIB, description="Longest header line of a request."
    )


class Raft(Section):
    """Consensus. The defaults suit one site; raise the times where round trips take tens of milliseconds."""

    tick_ms: int = Field(default=100, ge=20, le=1_000, description="The unit of Raft's timing, in milliseconds.")
    election_ticks: int = Field(
        default=10,
        ge=5,
        le=100,
        description="Silence of the leader, in ticks, before a follower stands (up to twice that).",
    )
    heartbeat_ticks: int = Field(default=2, ge=1, le=50, description="Ticks between a leader's heartbeats.")
    lease_reads: bool = Field(
        default=False,
        description="Leaders answer reads without asking a majority while their lease lasts. Saves a round of messages"
        " and trusts clocks: if one runs 10 % faster than the leader's, or the leader's virtual machine is paused, a"
        " read may be stale. A dead leader is then replaced only after its timeout. Set it alike on all nodes.",
    )
    hibernate_seconds: float = Field(
        default=15.0,
        ge=0.0,
        le=86_400.0,
        description="A shard that nobody used for so long rests: no heartbeats, its database closed, until somebody "
        "wants something of it. 0: none ever rests.",
    )
    hand_over_seconds: float = Field(
        default=2.0,
        ge=0.0,
        le=30.0,
        description="How long a node that stops may take to hand what it leads to others, so that nobody waits for an "
        "election; 0: it does not.",
    )
    slow_sync_ms: int = Field(
        default=500,
        ge=0,
        le=60_000,
        description="A leader whose log writes take longer than this until they are durable (99th percentile), or five "
        "times longer than its peers', hands over to a faster node. 0: never for its disk.",
    )
    open_databases: int = Field(
        default=64,
        ge=4,
        le=10_000,
        description="Metadata databases open at a time; past it the least recently used closes.",
    )
    snapshot_entries: int = Field(
        default=10_000, ge=100, le=10_000_000, description="Entries applied before the log is compacted."
    )
    trailing_entries: int = Field(
        default=5_000, ge=0, le=10_000_000, description="Entries kept after compaction for followers that lag."
    )
    snapshot_bytes_per_second: Size = Field(
        default=64 * MIB,
        ge=1 * MIB,
        description="What a node sends of snapshots a second, to all followers that need one together.",
    )
    log_bytes_max: Size = Field(
        default=1 * GIB, ge=256 * MIB, description="Budget of the log on disk; groups that pin old parts are compacted."
    )


class Blocks(Section):
    """Object data on the devices."""

    reserve_percent: float = Field(
        default=5.0, ge=0.0, le=50.0, description="Share of each disk kept free: past it writes go elsewhere."
    )
    dead_after_seconds: float = Field(
        default=600.0, ge=1.0, le=604_800.0, description="A device out of reach this long is dead: its data is rebuilt."
    )
    layout_settle_seconds: float = Field(
        default=5.0,
        ge=0.0,
        le=3_600.0,
        description="Devices that come or go within this time of each other make one layout, and move data once.",
    )
    layout_retire_seconds: float = Field(
        default=60.0,
        ge=1.0,
        le=86_400.0,
        description="How long a layout stays after the next one, for writes under way; it goes with its last block.",
    )
    small_block_bytes: Size = Field(
        default=limits.SMALL_BLOCK_BYTES,
        ge=0,
        le=limits.BLOCK_BYTES,
        description="Blocks below this are stored as copies even under a Reed-Solomon profile: one message to read.",
    )
    read_balance: Strategy = Field(
        default=Strategy.ADAPTIVE,
        description="Which of several replicas or fragments elsewhere is read: round-robin, least-connections, "
        "weighted-random (by the devices' weights), latency-based, or adaptive (fast and free). Those on this node go "
        "first, those on devices that answer slowly last, whatever it is.",
    )
    volume_bytes: Size = Field(
        default=1 * GIB,
        ge=64 * MIB,
        le=64 * GIB,
        description="Size of a volume file, into which fragments are appended.",
    )


class Repair(Section):
    """Making data fully redundant again after a loss."""

    bytes_per_second: Size = Field(
        default=256 * MIB,
        ge=64 * KIB,
        description="Most that repair reads and writes on each device a second while clients are idle; beside them it "
        "goes slower by itself.",
    )
    concurrent_blocks: int = Field(default=4, ge=1, le=64, description="Blocks rebuilt at once.")


class Gc(Section):
    """Reclaiming what deleted objects and broken-off uploads leave behind."""

    deletes_per_second: int = Field(default=2_000, ge=1, le=1_000_000, description="Blocks deleted a second at most.")
    orphan_grace_seconds: int = Field(
        default=limits.ORPHAN_GRACE_SECONDS,
        ge=limits.ORPHAN_GRACE_SECONDS,
        le=30 * 86_400,
        description="A block without an owner is deleted only after nobody claimed it twice, this long apart. Less "
        "than a day could take the blocks of an upload that is still under way.",
    )


class LogLevel(Enum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(Enum):
    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class Telemetry(Section):
    """Logs go to standard error; metrics are at /metrics of the admin listener."""

    log_level: LogLevel = Field(default=LogLevel.INFO, description="debug, info, warning or error.")
    log_format: LogFormat = Field(
        default=LogFormat.AUTO, description="json, console, or auto: console on a terminal, else json."
    )
    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="OpenTelemetry collector (gRPC), like http://localhost:4317, that traces are sent to; empty: none.",
        json_schema_extra={"secret": True},
    )


class Limits(Section):
    """Bounds on what peers may ask of this node at once; over them a call is refused and may be tried again."""

    calls_max: int = Field(default=2_000, ge=100, le=100_000, description="gRPC calls in progress.")
    calls_per_peer_max: int = Field(default=1_000, ge=50, le=100_000, description="Of these, calls of one peer.")
