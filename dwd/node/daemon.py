"""One node: every part built, started and stopped here, in the order in which they need each other.

    files, devices, log -> raft host -> metadata -> block store -> objects -> S3 listener
                     gRPC server (raft, metadata, fragments, admin), admin HTTP, background workers

Starting stops at the first part that cannot serve, and what was started is stopped again, last first. A fault that no
part can live with (a failed fsync, a broken invariant) sets `failure` and asks for the stop of the whole node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from dwd.base.ids import hex_id
from dwd.config.settings import Settings
from dwd.node.bootstrap import found_groups, propose_cluster
from dwd.node.disk import SYSTEM_DISK, Disk
from dwd.node.faults import Faults
from dwd.node.initialise import load_bootstrap
from dwd.node.listeners import Listeners
from dwd.node.metadata import Metadata
from dwd.node.network import Network
from dwd.node.storage import Storage
from dwd.node.surroundings import Surroundings, surroundings_of
from dwd.node.upkeep import Upkeep
from dwd.runtime.loop_lag import LoopLag
from dwd.runtime.notify import Notifier
from dwd.runtime.tasks import Tasks

_log = structlog.get_logger("dwd.node")

READY_SECONDS = 0.1
"""How often a starting node looks whether it is ready, to tell its supervisor."""


class Daemon:
    """`start` once, `stop` always (also after a failed start). `on_stop` is called when the node must end itself."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_stop: Callable[[], None],
        notifier: Notifier,
        disk: Disk = SYSTEM_DISK,
        faults: Faults | None = None,
    ) -> None:
        self._settings = settings
        self._disk = disk
        self._faults = faults
        self._on_stop = on_stop
        self._notifier = notifier
        self._stack = AsyncExitStack()
        self._listeners: Listeners | None = None
        self.failure: BaseException | None = None

    async def start(self) -> None:
        """Returns once everything listens; readiness comes when the cluster is reached. Raises DwError."""
        stack = self._stack
        around = surroundings_of(self._settings, self._disk, self._fail, self._faults)
        stack.callback(around.claim.release)
        tasks = await stack.enter_async_context(Tasks("node", self._task_failed))
        lag = LoopLag(around.clock)
        _ = tasks.spawn(lag.run(), name="loop lag")
        if self._faults is not None:
            _ = tasks.spawn(self._faults.run(), name="faults")
        network = await stack.enter_async_context(Network.open(around))
        storage = await stack.enter_async_context(Storage.open(around))
        metadata = await stack.enter_async_context(Metadata.open(around, network, storage.log))
        upkeep = await stack.enter_async_context(Upkeep.open(around, network, storage, metadata))
        listeners = await stack.enter_async_context(Listeners.open(around, network, metadata, upkeep, lag))
        self._listeners = listeners
        stack.callback(metadata.leave)
        bootstrap = load_bootstrap(around.paths, around.identity)
        if bootstrap is not None:
            await found_groups(metadata.host, around.identity, bootstrap, around.rng)
            await propose_cluster(
                metadata.client,
                around.identity,
                bootstrap,
                addresses=listeners.addresses,
                domain=around.domain,
                clock=around.clock,
                paths=around.paths,
            )
        upkeep.start(listeners.addresses)
        _ = tasks.spawn(self._report_ready(around, listeners), name="readiness")
        if self._notifier.ping_seconds:
            _ = tasks.spawn(self._ping(), name="watchdog")

    async def stop(self) -> None:
        """Stop everything that was started, last first."""
        await self._stack.aclose()

    def listening(self) -> dict[str, str]:
        """What to log: where this node listens, and who it is."""
        if self._listeners is None:
            return {}
        addresses = self._listeners.addresses
        return {
            "node_id": hex_id(self._listeners.node),
            "grpc": addresses.grpc,
            "s3": addresses.s3,
            "admin": addresses.admin,
        }

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
            _log.critical("this node must stop", error=str(error), exc_info=error)
        self._on_stop()

    def _task_failed(self, name: str, error: BaseException) -> None:
        _log.error("a task of the node failed", task=name)
        self._fail(error)

    async def _report_ready(self, around: Surroundings, listeners: Listeners) -> None:
        while not listeners.health.ready().passed:  # noqa: ASYNC110 - readiness turns with time too, nothing announces it
            await asyncio.sleep(READY_SECONDS)
        self._notifier.ready(f"node {around.settings.node.name} serves S3 on {listeners.addresses.s3}")
        _log.info("ready")

    async def _ping(self) -> None:
        while True:
            self._notifier.watchdog()
            await asyncio.sleep(self._notifier.ping_seconds)
