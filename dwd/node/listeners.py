"""What faces outward: the object service, the S3 and admin listeners, the gRPC server, and readiness."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from dwd.admin.context import AdminContext
from dwd.admin.http import AdminHttp
from dwd.admin.rpc.consensus import ConsensusServicer
from dwd.admin.rpc.devices import DevicesServicer
from dwd.admin.rpc.healing import HealingServicer
from dwd.admin.rpc.jobs import JobsServicer
from dwd.admin.rpc.keys import KeysServicer
from dwd.admin.rpc.layouts import LayoutsServicer
from dwd.admin.rpc.profiles import ProfilesServicer
from dwd.admin.rpc.servicer import AdminServicer
from dwd.base.errors import DwError
from dwd.base.ids import NodeId
from dwd.base.version import VERSION
from dwd.config.values import Address
from dwd.gateway.options import GatewayOptions
from dwd.gateway.server import S3Server
from dwd.meta.core.control.rows import NodeAddresses
from dwd.node.keyring import KeyringKeeper
from dwd.node.metadata import Metadata
from dwd.node.network import Network
from dwd.node.surroundings import Surroundings
from dwd.node.tls import tls_for
from dwd.node.upkeep import Upkeep
from dwd.objects.at_rest import ObjectKeys
from dwd.objects.context import Context
from dwd.objects.credentials import ControlCredentials
from dwd.objects.service import ObjectService
from dwd.observability.health import Health
from dwd.runtime.loop_lag import LoopLag
from dwd.runtime.tasks import Tasks

HASH_THREADS = 2
_log = structlog.get_logger("dwd.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """`addresses` are what others are told to call, with the ports really bound."""

    node: NodeId
    addresses: NodeAddresses
    health: Health

    @classmethod
    @asynccontextmanager
    async def open(
        cls, around: Surroundings, network: Network, metadata: Metadata, upkeep: Upkeep, lag: LoopLag
    ) -> AsyncIterator[Listeners]:
        """Binds all three listeners. Raises Unavailable when a port is taken."""
        settings = around.settings
        async with AsyncExitStack() as stack:
            objects = await _objects(around, metadata, upkeep, stack)
            health = _health(metadata, upkeep)
            upkeep.healing.pacing.lag = lag.seconds
            admin_context = _admin_context(around, network, metadata, upkeep, objects, lag)
            network.server.add(AdminServicer(admin_context).register)
            network.server.add(ConsensusServicer(admin_context).register)
            network.server.add(HealingServicer(admin_context).register)
            network.server.add(LayoutsServicer(admin_context).register)
            network.server.add(ProfilesServicer(admin_context).register)
            network.server.add(JobsServicer(admin_context).register)
            network.server.add(KeysServicer(admin_context).register)
            keeper = KeyringKeeper(
                identity=around.identity, ring=around.keyring, paths=around.paths, view=metadata.client.view
            )
            stack.callback(metadata.client.view.watch(keeper.refresh))
            keeper.refresh()
            network.server.add(DevicesServicer(admin_context).register)
            admin_tls = tls_for("admin", settings.tls.admin_certificate, settings.tls.admin_key)
            s3_tls = tls_for("s3", settings.tls.s3_certificate, settings.tls.s3_key)
            for tls in (admin_tls, s3_tls):
                if tls is not None:
                    upkeep.workers.add(tls)
            admin = AdminHttp(str(settings.listen.admin), health, tls=admin_tls.context if admin_tls else None)
            credentials = ControlCredentials(metadata.client.view, around.keyring)
            s3 = S3Server(
                objects,
                credentials,
                around.clock,
                GatewayOptions(
                    host=settings.listen.s3.host,
                    port=settings.listen.s3.port,
                    region=settings.s3.region,
                    domains=(settings.s3.domain,) if settings.s3.domain else (),
                    tls=s3_tls.context if s3_tls else None,
                    requests_max=settings.s3.requests_max,
                    customer_keys_over_http=settings.s3.customer_keys_over_http,
                    header_line_bytes_max=settings.s3.header_line_bytes_max,
                ),
            )
            grpc_port = await network.server.start()
            admin_port = await admin.start()
            stack.push_async_callback(admin.stop)
            s3_port = await s3.start()
            stack.push_async_callback(s3.stop)
            yield cls(
                node=around.identity.node_id,
                addresses=NodeAddresses(
                    grpc=_at(settings.advertise, grpc_port if settings.listen.advertise is None else 0),
                    s3=_at(settings.listen.s3, s3_port),
                    admin=_at(settings.listen.admin, admin_port),
                ),
                health=health,
            )


def _admin_context(
    around: Surroundings, network: Network, metadata: Metadata, upkeep: Upkeep, objects: ObjectService, lag: LoopLag
) -> AdminContext:
    return AdminContext(
        node=around.identity.node_id,
        cluster=around.identity.cluster_id,
        version=VERSION,
        clock=around.clock,
        started=around.started,
        host=metadata.host,
        meta=metadata.client,
        objects=objects,
        blocks=upkeep.reports,
        healing=upkeep.healing,
        topology=upkeep.topology,
        scrub=upkeep.scrub,
        latencies=upkeep.store.latencies,
        jobs=upkeep.jobs.book,
        channels=network.channels,
        workers=upkeep.workers,
        keyring=lambda: around.keyring,
        loop_lag=lag.seconds,
        recovery=metadata.recovery,
        known_nodes=lambda: (around.identity.node_id, *network.membership.addresses()),
    )


async def _objects(around: Surroundings, metadata: Metadata, upkeep: Upkeep, stack: AsyncExitStack) -> ObjectService:
    hashing = ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="dwd-hash")
    stack.callback(hashing.shutdown, wait=False, cancel_futures=True)
    tasks = await stack.enter_async_context(Tasks("objects", _read_failed))
    return ObjectService(
        Context(
            meta=metadata.client,
            blocks=upkeep.store,
            keys=ObjectKeys(around.keyring, metadata.client.view),
            clock=around.clock,
            hashing=hashing,
            tasks=tasks,
            inline_bytes_max=around.settings.s3.inline_bytes_max,
        )
    )


def _read_failed(name: str, error: BaseException) -> None:
    """A block read ahead failed: whoever streams the object is told; a defect is said aloud too."""
    if not isinstance(error, DwError):
        _log.error("reading ahead failed", task=name, exc_info=error)


def _health(metadata: Metadata, upkeep: Upkeep) -> Health:
    health = Health()

    def control() -> str:
        try:
            metadata.client.view.require_fresh()
            if metadata.client.view.topology().cluster is None:
                return "the cluster is not known here yet"
        except DwError as error:
            return error.message
        return ""

    def layout() -> str:
        try:
            upkeep.topology.layout()
        except DwError as error:
            return error.message
        return ""

    health.add_ready("control", control)
    health.add_ready("layout", layout)
    return health


def _at(address: Address, port: int) -> str:
    return str(Address(host=address.host, port=port or address.port))
