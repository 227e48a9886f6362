"""One node of the world: its disk and clock, which outlive it, and the process that runs on them now, if one does.

The process is the daemon's consensus and metadata as they are: `Host` over the real log and the real databases, the
metadata client, and the workers that keep liveness and membership. Its surroundings are the simulator's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from dwd.base.errors import DwError
from dwd.base.ids import GroupId, NodeId, ReplicaId
from dwd.meta.client import MetaClient
from dwd.meta.local import LocalGroups
from dwd.meta.store.databases import Databases
from dwd.meta.workers.liveness import LivenessWorker
from dwd.meta.workers.membership import MembershipWorker
from dwd.raft.core.types import Role
from dwd.raft.host import Host
from dwd.raft.log.store import RaftLog
from dwd.runtime.tasks import Tasks
from dwd.runtime.workers import WorkerRunner
from tests.sim.disk import PowerLost, SimDisk
from tests.sim.network import GRID_SECONDS, Endpoint, SimPeers, SimTransport
from tests.sim.watching import WatchedLog, WatchedMachine
from tests.sim.work import SimLanes, SimMailboxes
from tests.twins.meta_group import CLUSTER
from tests.twins.virtual_time import EPOCH_MS, LIFE, Life, SeededRng

if TYPE_CHECKING:
    from tests.sim.world import World

STOP_SECONDS = 15.0


class SkewedClock:
    """`dwd.base.clock.Clock`: durations are everybody's, the time of day is this machine's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.skew_ms = 0

    def monotonic(self) -> float:
        return self._loop.time()

    def unix_ms(self) -> int:
        return EPOCH_MS + self.skew_ms + int(self._loop.time() * 1000)


class SimNode:
    def __init__(self, world: World, number: int) -> None:
        self.id = NodeId(number)
        self.clock = SkewedClock(world.loop)
        self.rng = SeededRng(world.rng.bits(60))
        self.disk = SimDisk(
            world.root / f"n{number}", f"sim-{id(world):x}-{number}", SeededRng(self.rng.bits(60)), self._power_lost
        )
        self.endpoint: Endpoint | None = None
        self.host: Host | None = None
        """Set once it runs."""
        self.client: MetaClient | None = None
        self.slowness = 1.0
        """Of the disk, as a factor."""
        self._world = world
        self._callers: dict[asyncio.Future[Any], None] = {}

    @property
    def up(self) -> bool:
        return self.endpoint is not None

    @property
    def ready(self) -> bool:
        return self.host is not None

    def start(self) -> None:
        self.disk.revive()
        life = Life(f"n{self.id}")
        context = copy_context()
        context.run(LIFE.set, life)
        self.endpoint = Endpoint(node=self.id, life=life, context=context)
        self._world.network.endpoints[self.id] = self.endpoint
        _ = self._world.loop.create_task(self._boot(self.endpoint), context=context)

    def kill(self, *, power: bool) -> None:
        """The process is gone, at once; with `power` the machine too. Nothing of it runs from now on."""
        endpoint = self.endpoint
        if endpoint is None:
            return
        endpoint.life.over = True
        self.endpoint, self.host, self.client = None, None, None
        self._world.watch.process_ended(self.id)
        self.disk.dead = True
        if power:
            self.disk.power_loss()
        self.disk.release()
        self._world.network.gone(endpoint, noticed=not power)
        callers, self._callers = self._callers, {}
        for caller in callers:
            if not caller.done():
                caller.cancel()

    async def stop(self) -> None:
        """As the daemon is stopped: leaderships handed over, files closed."""
        endpoint, host, client = self.endpoint, self.host, self.client
        if endpoint is None or host is None or client is None:
            return

        async def going() -> None:
            client.close()
            await self._workers.close()
            await host.stop()
            await self._log.close()

        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._world.loop.create_task(going(), context=endpoint.context)
        except (TimeoutError, DwError):
            self._world.counts["stop_slow"] += 1
        if self.endpoint is endpoint:
            self.kill(power=False)

    async def run(self, work: Callable[[MetaClient], Awaitable[Any]]) -> Any:
        """`work` in the life of this node's process. Cancelled when that dies. Raises what `work` does."""
        endpoint, client = self.endpoint, self.client
        if endpoint is None or client is None:
            raise asyncio.CancelledError
        loop = self._world.loop
        proxy: asyncio.Future[Any] = loop.create_future()
        self._callers[proxy] = None

        async def carried() -> None:
            try:
                result = await work(client)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                if not proxy.done():
                    proxy.set_exception(error)
            else:
                if not proxy.done():
                    proxy.set_result(result)

        _ = loop.create_task(carried(), context=endpoint.context)
        try:
            return await proxy
        finally:
            self._callers.pop(proxy, None)

    def leads(self, group: GroupId) -> bool:
        host = self.host
        return host is not None and host.serves(group) and host.status(group).role is Role.LEADER

    # -- the process -------------------------------------------------------------------------------------------------

    async def _boot(self, endpoint: Endpoint) -> None:
        try:
            await self._open(endpoint)
        except DwError as error:
            self._died("the node does not start", error)

    async def _open(self, endpoint: Endpoint) -> None:
        world, disk = self._world, self.disk
        files = disk.files
        for name in ("log", "groups", "snapshots"):
            files.make_directory(disk.root / name)
        log = await RaftLog.open(
            files=files, directory=disk.root / "log", rng=self.rng, options=world.plan.log_options,
            on_fatal=lambda error: self._died("the log failed", error), start_worker=SimMailboxes(self._sync_seconds),
        )  # fmt: skip
        self._log = log
        databases = Databases(disk.root / "groups", cluster=CLUSTER, files=files, vfs=disk.vfs_name)
        host = Host(
            node=self.id,
            log=WatchedLog(log, world.watch, self.id),
            transport=SimTransport(world.network, endpoint),
            machines=lambda group: WatchedMachine(databases.open(group), world.watch, self.id, group),
            discard_machine=databases.discard,
            snapshots=disk.root / "snapshots",
            lanes=SimLanes(self._apply_seconds),
            clock=self.clock,
            rng=self.rng,
            options=world.plan.host_options,
            on_fatal=lambda error: self._died("the host stopped", error),
        )
        await host.start()
        client = MetaClient(
            node=self.id, host=host, databases=databases, peers=SimPeers(world.network, endpoint),
            clock=self.clock, rng=self.rng,
        )  # fmt: skip
        endpoint.local = LocalGroups(host, databases)
        self._workers = Tasks("sim.workers", self._died)
        runner = WorkerRunner(self._workers, self.clock, self.rng)
        runner.add(LivenessWorker(node=self.id, client=client, host=host, clock=self.clock))
        if world.plan.reconciled:
            runner.add(
                MembershipWorker(
                    node=self.id,
                    host=host,
                    view=client.view,
                    create_replica=self._create_replica,
                    drop_replica=self._drop_replica,
                    clock=self.clock,
                    rng=self.rng,
                )
            )
        self.host, self.client = host, client

    async def _create_replica(self, node: NodeId, group: GroupId, replica: ReplicaId, *, witness: bool) -> None:
        await self._ask(node, lambda there: there.listening().prepare_replica(group, replica, witness=witness))

    async def _drop_replica(self, node: NodeId, group: GroupId, replica: ReplicaId) -> None:
        await self._ask(node, lambda there: there.listening().drop_replica(group, replica))

    async def _ask(self, node: NodeId, work: Callable[[Endpoint], Awaitable[None]]) -> None:
        if self.endpoint is not None:
            await self._world.network.call(self.endpoint, node, work, seconds=5.0)

    def _sync_seconds(self) -> float:
        return self._world.loop.until_tick(self.slowness * self.rng.uniform(0.0005, 0.006), GRID_SECONDS)

    def _apply_seconds(self) -> float:
        return self._world.loop.until_tick(self.slowness * self.rng.uniform(0.0001, 0.004), GRID_SECONDS)

    def _died(self, what: str, error: BaseException) -> None:
        """It gave up by itself."""
        endpoint = self.endpoint
        if isinstance(error, PowerLost) or endpoint is None or endpoint.life.over:
            return
        endpoint.life.over = True
        self._world.gave_up(self, f"{what}: {error}")

    def _power_lost(self) -> None:
        if self.endpoint is not None:
            self.endpoint.life.over = True
            self._world.power_lost(self)
