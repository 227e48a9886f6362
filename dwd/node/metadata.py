"""Consensus and metadata of a node: host, databases, client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from dwd.meta.audit import Audit
from dwd.meta.client import MetaClient
from dwd.meta.local import LocalGroups
from dwd.meta.rpc.peers import GrpcPeers
from dwd.meta.rpc.service import MetaService
from dwd.meta.store.databases import Databases
from dwd.node.network import Network
from dwd.node.surroundings import Surroundings
from dwd.raft.host import Host
from dwd.raft.options import HostOptions
from dwd.raft.ports import LogStore
from dwd.raft.quorum_loss.execution import Execution
from dwd.raft.rpc.clocks import GrpcClocks
from dwd.raft.rpc.transport import GrpcTransport
from dwd.runtime.serial import ThreadLanes

LEAVE_SECONDS = 1.5
"""What requests in progress get to find a quorum once the node stops; with one they need milliseconds."""
MACHINE_THREADS = 8
"""On which the state machines of all groups take turns."""
SNAPSHOT_THREADS = 4
"""For copies of databases, sent and received; started when first needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    host: Host
    client: MetaClient
    audit: Audit
    recovery: Execution

    def leave(self) -> None:
        """The node begins to stop: whoever waits for a quorum that is gone is not waited for long."""
        self.client.leave(LEAVE_SECONDS)
        asyncio.get_running_loop().call_later(LEAVE_SECONDS, self.host.fail_waiting)

    @classmethod
    @asynccontextmanager
    async def open(cls, around: Surroundings, network: Network, log: LogStore) -> AsyncIterator[Metadata]:
        """Recovers every group of the log. Raises DwError."""
        transport = GrpcTransport(
            node=around.identity.node_id,
            channels=network.channels,
            epochs=around.epochs,
            introduce=partial(network.introduce, around),
        )
        transport.register(network.server)
        clocks = GrpcClocks(network.channels, around.clock)
        clocks.register(network.server)
        databases = Databases(
            around.paths.groups, cluster=around.identity.cluster_id, files=around.files, vfs=around.vfs
        )
        lanes = ThreadLanes(threads=MACHINE_THREADS, name="dwd-group")
        bulk = ThreadLanes(threads=SNAPSHOT_THREADS, name="dwd-snapshot")
        host = Host(
            node=around.identity.node_id,
            log=log,
            transport=transport,
            machines=databases.open,
            discard_machine=databases.discard,
            snapshots=around.paths.snapshots,
            lanes=lanes,
            bulk=bulk,
            clock=around.clock,
            rng=around.rng,
            options=_options(around),
            on_fatal=around.on_fatal,
            clocks=clocks,
        )
        audit = Audit(host)
        network.server.add(MetaService(LocalGroups(host, databases), host, audit, around.clock).register)
        peers = GrpcPeers(network.channels, around.clock)
        client = MetaClient(
            node=around.identity.node_id,
            host=host,
            databases=databases,
            peers=peers,
            clock=around.clock,
            rng=around.rng,
        )
        recovery = Execution(around.identity.node_id, host, around.epochs)
        around.epochs.serve(holds=lambda: bool(host.groups()), obey=recovery.obey, on_fenced=around.on_fatal)
        try:
            await host.start()
            network.follow(around, client.view)
            yield cls(host=host, client=client, audit=audit, recovery=recovery)
        finally:
            client.close()
            await peers.close()
            await host.stop()
            await lanes.close()
            await bulk.close()
            databases.close()


def _options(around: Surroundings) -> HostOptions:
    raft = around.settings.raft
    return HostOptions(
        tick_ms=raft.tick_ms,
        election_ticks=raft.election_ticks,
        heartbeat_ticks=raft.heartbeat_ticks,
        lease_reads=raft.lease_reads,
        hibernate_seconds=raft.hibernate_seconds,
        hand_over_seconds=raft.hand_over_seconds,
        slow_sync_seconds=raft.slow_sync_ms / 1000,
        machines_open_max=raft.open_databases,
        compaction_entries=raft.snapshot_entries,
        trailing_entries=raft.trailing_entries,
        snapshot_bytes_per_second=raft.snapshot_bytes_per_second,
    )
