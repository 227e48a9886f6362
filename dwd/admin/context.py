"""What the admin service works with on a node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from dwd.base.clock import Clock
from dwd.base.ids import ClusterId, DeviceId, NodeId
from dwd.blocks.healing import HealParts
from dwd.blocks.latency import Latencies
from dwd.blocks.scrub_worker import ScrubWorker
from dwd.blocks.topology import Topology
from dwd.jobs.book import JobBook
from dwd.meta.client import MetaClient
from dwd.objects.ports import Caller, Objects
from dwd.raft.host import Host
from dwd.raft.quorum_loss.execution import Execution
from dwd.rpc.channels import Channels
from dwd.runtime.workers import WorkerRunner
from dwd.security.keyring import Keyring

PEER_SECONDS = 2.0
"""How long one node may take to tell another what it knows."""
OPERATION_SECONDS = 25.0
"""What an operator's request may take inside the cluster; dwctl waits a little longer."""
TRANSFER_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """A local device as it is. Sizes in bytes."""

    device: DeviceId
    path: str
    weight: int
    failed: str
    """Why it is out of service; empty when it serves."""
    used: int
    free: int
    total: int
    fragments: int
    read_only: str = ""
    """Why nothing can be written to it."""
    rebuilding: bool = False
    """It is out of service because its index is being made anew."""
    reserve: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """How the blocks of the shards led here stand, devices that are down taken into account."""

    blocks: int
    degraded: int
    at_risk: int


class BlockReports(Protocol):
    """What the block store of this node can tell operators."""

    async def devices(self) -> tuple[DeviceReport, ...]: ...

    async def exposure(self) -> Exposure:
        """Of the shards this node leads."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminContext:
    """Everything the verbs use. `loop_lag` is in seconds."""

    node: NodeId
    cluster: ClusterId
    version: str
    clock: Clock
    started: float
    host: Host
    meta: MetaClient
    objects: Objects
    blocks: BlockReports
    healing: HealParts
    topology: Topology
    scrub: ScrubWorker
    latencies: Latencies
    """How devices have been answering this node."""
    jobs: JobBook
    channels: Channels
    workers: WorkerRunner
    keyring: Callable[[], Keyring]
    loop_lag: Callable[[], float]
    recovery: Execution
    known_nodes: Callable[[], Iterable[NodeId]]
    """Of the cluster, as far as this node knows, also without a copy of control."""

    def deadline(self, seconds: float = OPERATION_SECONDS) -> float:
        """Absolute, on the clock's monotonic side."""
        return self.clock.monotonic() + seconds


OPERATOR = Caller(user="", access_key="", admin=True)
"""Operators act on every bucket; buckets they create name an owner."""
