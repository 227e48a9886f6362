"""The block store of a node and all its background workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from dwd.base.ids import NodeId
from dwd.blocks.core.scrubbing import PERIOD_DAYS_DEFAULT, PERIOD_SETTING, period_days
from dwd.blocks.findings import Findings, FindingWorker
from dwd.blocks.fragments import FragmentRouter
from dwd.blocks.gc import GcOptions, GcWorker, LeftoverWorker
from dwd.blocks.healing import HealParts
from dwd.blocks.ledger import LedgerWorker
from dwd.blocks.orphans import OrphanOptions, OrphanWorker
from dwd.blocks.policies import tier_of
from dwd.blocks.recount import Recount
from dwd.blocks.repair_worker import ReportWorker
from dwd.blocks.rpc.client import RemoteFragments
from dwd.blocks.rpc.server import FragmentServer
from dwd.blocks.sample import SampleWorker
from dwd.blocks.scrub_worker import ScrubWorker
from dwd.blocks.store import ErasureBlockStore, StoreOptions
from dwd.blocks.upkeep import CompactionWorker, IndexWorker, SweptHere
from dwd.jobs.runner import JobRunner
from dwd.jobs.sweep import FenceSweeper
from dwd.lifecycle.gather import Survey
from dwd.lifecycle.rpc.devices import GrpcDeviceFleet
from dwd.lifecycle.rpc.fleet import GrpcFleet
from dwd.meta.catalogue import ClientCatalogue
from dwd.meta.core.control.rows import NodeAddresses
from dwd.meta.core.control.state import Part
from dwd.meta.rpc.audits import GrpcAudits
from dwd.meta.rpc.leaderships import GrpcLeaderships
from dwd.meta.view import ControlView
from dwd.meta.workers.checkpoint import CheckpointWorker
from dwd.meta.workers.deletion import DeletionWorker
from dwd.meta.workers.leaderships import LeadershipWorker
from dwd.meta.workers.liveness import LivenessWorker
from dwd.meta.workers.membership import MembershipWorker
from dwd.meta.workers.scan import SCAN_PACE, ScanWorker
from dwd.meta.workers.upkeep import UpkeepWorker
from dwd.meta.workers.version import VersionWorker
from dwd.node.announce import AnnounceWorker
from dwd.node.block_owner import MetaBlockOwner
from dwd.node.block_reports import NodeBlockReports
from dwd.node.healing import follow_pace, open_healing
from dwd.node.jobs import KindParts, NodeJobs
from dwd.node.layout_workers import FenceWorker, LayoutWorker, RetireWorker
from dwd.node.metadata import Metadata
from dwd.node.network import Network
from dwd.node.removal import ASK_SECONDS, RemovalWorker, write_removed
from dwd.node.storage import Storage
from dwd.node.surroundings import Surroundings
from dwd.node.topology import ControlTopology
from dwd.raft.rpc.admin_client import create_replica, drop_replica
from dwd.raft.rpc.clocks import GrpcClocks
from dwd.runtime.allocator import TrimWorker
from dwd.runtime.pacing import PACE_DEFAULT, PACE_FULL
from dwd.runtime.tasks import Tasks
from dwd.runtime.worker import Worker
from dwd.runtime.workers import WorkerRunner

_log = structlog.get_logger("dwd.node")

WOKEN_BY_CONTROL = ("node.announce", "blocks.walk", "blocks.layout", "blocks.fence", "meta.membership", "meta.version")
"""Workers that look again at once when control changed."""
PACES = {
    "jobs.runner": PACE_FULL,
    "blocks.scrub": PACE_FULL,
    "meta.membership": PACE_FULL,
    "meta.liveness": PACE_FULL,
    "meta.checkpoint": PACE_FULL,
    "meta.scan": SCAN_PACE,
    "blocks.repair": PACE_FULL,
}
"""Of workers that do not go at the default pace: most of these spend their time waiting for others, and their delay is
a group's risk. Repair is paced by the devices (dwd.blocks.pacing)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """`start` sets the workers to work, once the node knows its addresses."""

    around: Surroundings
    network: Network
    storage: Storage
    metadata: Metadata
    topology: ControlTopology
    store: ErasureBlockStore
    router: FragmentRouter
    catalogue: ClientCatalogue
    healing: HealParts
    reports: NodeBlockReports
    findings: Findings
    scrub: ScrubWorker
    jobs: NodeJobs
    workers: WorkerRunner

    @classmethod
    @asynccontextmanager
    async def open(
        cls, around: Surroundings, network: Network, storage: Storage, metadata: Metadata
    ) -> AsyncIterator[Upkeep]:
        """Registers the fragment service; nothing works yet."""
        async with AsyncExitStack() as stack:
            topology = ControlTopology(around.identity.node_id, metadata.client.view)
            FragmentServer(storage.fragments, around.clock).add_to(network.server)
            remote = RemoteFragments(network.channels, around.clock)
            stack.push_async_callback(remote.close)
            router = FragmentRouter(topology, storage.fragments, remote)
            store = ErasureBlockStore(
                topology=topology,
                fragments=router,
                clock=around.clock,
                rng=around.rng,
                options=StoreOptions(
                    small_block_bytes=around.settings.blocks.small_block_bytes,
                    read_balance=around.settings.blocks.read_balance,
                    tier=lambda: tier_of(metadata.client.view.topology()),
                ),
            )
            stack.push_async_callback(store.close)
            catalogue = ClientCatalogue(metadata.client)
            healing = await stack.enter_async_context(open_healing(around, storage, topology, store, router, catalogue))
            reports = NodeBlockReports(
                devices=storage.devices,
                local=storage.fragments,
                walker=healing.walker,
                catalogue=catalogue,
                meta=metadata.client,
                topology=topology,
                clock=around.clock,
            )
            parts = _parts(around, network, metadata, topology, store, router)
            findings = Findings()
            scrub = ScrubWorker(
                local=storage.fragments,
                findings=findings,
                period_days=partial(_scrub_days, metadata.client.view),
                clock=around.clock,
            )
            tasks = await stack.enter_async_context(Tasks("workers", lambda _name, error: around.on_fatal(error)))
            yield cls(
                around=around,
                network=network,
                storage=storage,
                metadata=metadata,
                topology=topology,
                store=store,
                router=router,
                catalogue=catalogue,
                healing=healing,
                reports=reports,
                findings=findings,
                scrub=scrub,
                jobs=await stack.enter_async_context(NodeJobs.open(around, parts)),
                workers=WorkerRunner(tasks, around.clock, around.rng),
            )

    def start(self, addresses: NodeAddresses) -> None:
        """Every background worker of the node: those that need the cluster's metadata as soon as a copy of control is
        here. Each one that belongs to a leader rests on the other nodes.
        """
        for worker in self._local_workers():
            self.workers.add(worker, pace=PACES.get(worker.name, PACE_DEFAULT))
        view = self.metadata.client.view

        def begin() -> None:
            if view.topology_or_none() is None:
                return
            unwatch()
            for worker in (*self._cluster_workers(addresses), *self._block_workers()):
                self.workers.add(worker, pace=PACES.get(worker.name, PACE_DEFAULT))
            self.healing.queue.on_offer = lambda: self.workers.wake(self.healing.worker.name)
            follow_pace(view, self.storage)
            for name in WOKEN_BY_CONTROL:
                view.watch(lambda name=name: self.workers.wake(name))  # type: ignore[misc]
            view.watch(lambda: self.workers.wake(JobRunner.name), frozenset({Part.JOBS}))

        unwatch = view.watch(begin)
        begin()

    def _local_workers(self) -> tuple[Worker, ...]:
        around, clocks = self.around, GrpcClocks(self.network.channels, self.around.clock)

        async def removed(told_by: NodeId) -> None:
            error = await asyncio.to_thread(
                write_removed, around.files, around.paths, around.identity, told_by, around.clock
            )
            _log.critical("this node was removed from its cluster", error=error.message, hint=error.hint)
            around.on_fatal(error)

        removal = RemovalWorker(
            node=around.identity.node_id,
            topology=self.metadata.client.view.topology_or_none,
            addresses=self.network.membership.addresses,
            last_contact=self.metadata.host.last_contact,
            ask=lambda node: clocks.unix_ms(node, seconds=ASK_SECONDS),
            on_removed=removed,
        )
        local = self.storage.fragments
        return (
            removal,
            self.storage.keeper,
            IndexWorker(local),
            CompactionWorker(local, self.findings.add),
            self.scrub,
            TrimWorker(),
        )

    def _cluster_workers(self, addresses: NodeAddresses) -> tuple[Worker, ...]:
        around, meta = self.around, self.metadata.client
        return (
            AnnounceWorker(
                node=around.identity.node_id,
                meta=meta,
                clock=around.clock,
                addresses=addresses,
                domain=around.domain,
                devices=self.storage.devices.local,
                believe=self.storage.devices.believe,
            ),
            LayoutWorker(
                meta=meta,
                topology=self.topology,
                clock=around.clock,
                settle_seconds=around.settings.blocks.layout_settle_seconds,
            ),
            RetireWorker(meta=meta, clock=around.clock, after_seconds=around.settings.blocks.layout_retire_seconds),
            FenceWorker(local=self.storage.fragments, meta=meta),
            MembershipWorker(
                node=around.identity.node_id,
                host=self.metadata.host,
                view=meta.view,
                create_replica=partial(
                    create_replica, self.network.channels, around.epochs, self.network.membership.addresses
                ),
                drop_replica=partial(drop_replica, self.network.channels, around.epochs),
                clock=around.clock,
                rng=around.rng,
            ),
            LivenessWorker(node=around.identity.node_id, client=meta, host=self.metadata.host, clock=around.clock),
            LeadershipWorker(
                client=meta,
                leaderships=GrpcLeaderships(
                    around.identity.node_id, self.metadata.host, self.network.channels, around.clock
                ),
                clock=around.clock,
            ),
            VersionWorker(host=self.metadata.host, client=meta, clock=around.clock),
            UpkeepWorker(client=meta, clock=around.clock),
            DeletionWorker(client=meta, clock=around.clock),
            self.jobs.runner,
            FenceSweeper(meta=meta, clock=around.clock),
            ScanWorker(host=self.metadata.host, audit=self.metadata.audit),
            CheckpointWorker(
                node=around.identity.node_id,
                host=self.metadata.host,
                client=meta,
                audit=self.metadata.audit,
                audits=GrpcAudits(self.network.channels),
                clock=around.clock,
                rescan=lambda: self.workers.wake(ScanWorker.name),
            ),
        )

    def _block_workers(self) -> tuple[Worker, ...]:
        settings, clock = self.around.settings, self.around.clock
        view = self.metadata.client.view
        return (
            self.healing.walker,
            self.healing.worker,
            LedgerWorker(self.healing.ledger, clock),
            SampleWorker(
                catalogue=self.catalogue,
                topology=self.topology,
                fragments=self.router,
                reports=self.store.reports,
                period_days=partial(_scrub_days, view),
                clock=clock,
                rng=self.around.rng,
            ),
            FindingWorker(
                findings=self.findings,
                local=self.storage.fragments,
                reports=self.store.reports,
                topology=self.topology,
                shards=self.metadata.client,
                clock=clock,
            ),
            ReportWorker(
                reports=self.store.reports,
                catalogue=self.catalogue,
                group_of=lambda owner: view.group_of(owner.bucket, owner.key),
                clock=clock,
            ),
            GcWorker(
                catalogue=self.catalogue,
                topology=self.topology,
                fragments=self.router,
                clock=clock,
                options=GcOptions(blocks_per_second=settings.gc.deletes_per_second),
            ),
            LeftoverWorker(leftovers=self.store.leftovers, fragments=self.router, clock=clock),
            OrphanWorker(
                local=SweptHere(self.storage.fragments),
                owner=MetaBlockOwner(self.metadata.client, self.catalogue),
                topology=self.topology,
                clock=clock,
                options=OrphanOptions(grace_seconds=settings.gc.orphan_grace_seconds),
            ),
        )


def _survey(around: Surroundings, network: Network, metadata: Metadata, topology: ControlTopology) -> Survey:
    fleet = GrpcFleet(around.identity.node_id, network.channels, metadata.client.view)
    return Survey(meta=metadata.client, topology=topology, fleet=fleet, clock=around.clock)


def _scrub_days(view: ControlView) -> float:
    topology = view.topology_or_none()
    if topology is None:
        return PERIOD_DAYS_DEFAULT
    return period_days(topology.setting(PERIOD_SETTING), tier_of(topology))


def _parts(
    around: Surroundings,
    network: Network,
    metadata: Metadata,
    topology: ControlTopology,
    store: ErasureBlockStore,
    router: FragmentRouter,
) -> KindParts:
    return KindParts(
        meta=metadata.client,
        clock=around.clock,
        recount=Recount(topology=topology, fragments=router, clock=around.clock),
        found=store.reports,
        survey=_survey(around, network, metadata, topology),
        devices=GrpcDeviceFleet(around.identity.node_id, network.channels),
        store=store,
        topology=topology,
        reencode_bytes_per_second=around.settings.repair.bytes_per_second,
    )
