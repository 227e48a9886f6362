"""Many groups on a node: what one costs in memory while it rests.

Part of `make perf`. In one process: hosts with real databases and real logs, groups with a voter on each, all of which
were used and then came to rest. Memory is what the process has resident after `malloc_trim`, so that what the
allocator keeps for later does not count; between the two counts of groups everything else is the same, and the
difference, divided by the replicas between them, is what a replica costs. Aim: at most 64 KiB.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path

import structlog
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dwd.admin.rpc.status import resident_bytes
from dwd.base.errors import DwError, Unavailable
from dwd.base.ids import ClusterId, GroupId, NodeId, ReplicaId
from dwd.meta.codec import encode_envelope
from dwd.meta.core.apply import Envelope, RegisterSession
from dwd.meta.core.versions import OLDEST
from dwd.meta.store.databases import Databases
from dwd.raft.core.types import Configuration, Member, MemberRole
from dwd.raft.host import Host
from dwd.raft.log.store import RaftLog
from dwd.raft.options import HostOptions
from dwd.raft.transport import Parcel, SnapshotItem, SnapshotRequest, TransportHandler
from dwd.runtime.allocator import give_memory_back
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.os_files import OsFiles
from dwd.runtime.serial import ThreadLanes

CLUSTER = ClusterId("ab" * 16)
KIB = 1024
BYTES_A_REPLICA_MAX = 64 * KIB
PATIENCE_SECONDS = 240.0
AT_ONCE = 16
FIRST = 8
"""Groups made before anything is measured: what a process needs once is there then."""


class Switch:
    """Carries parcels between the hosts of this process."""

    def __init__(self, node: NodeId, known: dict[NodeId, TransportHandler]) -> None:
        self._node = node
        self._known = known

    async def start(self, handler: TransportHandler) -> None:
        self._known[self._node] = handler

    def send(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        handler = self._known.get(node)
        if handler is not None:
            asyncio.get_running_loop().call_soon(handler.received, self._node, group, parcels)

    async def fetch_snapshot(self, node: NodeId, request: SnapshotRequest) -> AsyncGenerator[SnapshotItem, None]:
        raise Unavailable("perf.no_snapshots", "nobody is far behind here", node=int(node), group=int(request.group))
        yield

    async def close(self) -> None:
        self._known.pop(self._node, None)


class Nodes:
    """`count` hosts."""

    def __init__(self, root: Path, count: int) -> None:
        self._root = root
        self._ids = [NodeId(n) for n in range(1, count + 1)]
        self._known: dict[NodeId, TransportHandler] = {}
        self._stack = contextlib.AsyncExitStack()
        self.hosts: list[Host] = []

    async def start(self) -> None:
        for node in self._ids:
            log = await RaftLog.open(
                files=OsFiles(), directory=self._root / f"log-{node}", rng=SystemRng(), on_fatal=_fatal
            )
            self._stack.push_async_callback(log.close)
            lanes = ThreadLanes(threads=4, name=f"group-{node}")
            self._stack.push_async_callback(lanes.close)
            databases = Databases(self._root / f"db-{node}", cluster=CLUSTER, files=OsFiles())
            host = Host(
                node=node, log=log, transport=Switch(node, self._known), machines=databases.open,
                discard_machine=databases.discard, snapshots=self._root / f"snapshots-{node}", lanes=lanes,
                clock=SystemClock(), rng=SystemRng(), options=HostOptions(hibernate_seconds=1.0, machines_open_max=16),
                on_fatal=_fatal,
            )  # fmt: skip
            self._stack.push_async_callback(lambda host=host: host.stop(hand_over=False))
            await host.start()
            self.hosts.append(host)

    async def stop(self) -> None:
        await self._stack.aclose()

    async def grow(self, groups: range) -> None:
        """Make the groups, use each, and wait until all rest."""
        waiting = iter(groups)

        async def work() -> None:
            for number in waiting:
                group = GroupId(number)
                members = tuple(
                    Member(node=node, replica=ReplicaId((number << 8) | node), role=MemberRole.VOTER)
                    for node in self._ids
                )
                for host in self.hosts:
                    await host.bootstrap(group, Configuration(members=members))
                await self._use(group)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(host.hibernates(GroupId(n)) for n in range(1, groups.stop) for host in self.hosts):
            if time.monotonic() > deadline:
                raise Unavailable("perf.not_at_rest", "not all groups came to rest")
            await asyncio.sleep(0.2)

    async def _use(self, group: GroupId) -> None:
        envelope = Envelope(session=7, sequence=0, lowest=0, version=OLDEST, command=RegisterSession())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for host in self.hosts:
                try:
                    await host.propose(group, encode_envelope(envelope), deadline=time.monotonic() + 5.0)
                except DwError:
                    continue
                return
            if time.monotonic() > deadline:
                raise Unavailable("perf.no_leader", f"group {group} has no leader")
            await asyncio.sleep(0.1)


def _fatal(error: BaseException) -> None:
    raise error


def held_bytes() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
    return resident_bytes()


async def measure(root: Path, counts: Sequence[int], members: int, console: Console) -> list[float]:
    """Bytes a replica, for each step from one count of groups to the next."""
    nodes = Nodes(root, members)
    costs = []
    try:
        await nodes.start()
        made, before = FIRST, 0
        await nodes.grow(range(1, FIRST + 1))
        before = held_bytes()
        for count in counts:
            began = time.monotonic()
            await nodes.grow(range(made + 1, count + 1))
            took, now = time.monotonic() - began, held_bytes()
            costs.append((now - before) / ((count - made) * members))
            console.print(
                f"{count} groups of {members} replicas, all at rest: {costs[-1] / KIB:.1f} KiB a replica (aim: at most "
                f"{BYTES_A_REPLICA_MAX / KIB:.0f}), {now / KIB / KIB:.0f} MiB in all, made in {took:.0f} s"
            )
            made, before = count, now
    finally:
        await nodes.stop()
    return costs


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--members", type=int, default=3, help="nodes, each with a replica of every group")
    parser.add_argument("--dir", type=Path, help="where databases are made (removed afterwards); default: a new one")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    give_memory_back()
    logging.getLogger().setLevel(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="dwd-groups-", dir=options.dir) as folder:
        costs = asyncio.run(measure(Path(folder), options.groups, options.members, Console()))
    if max(costs) > BYTES_A_REPLICA_MAX:
        sys.exit(1)


if __name__ == "__main__":
    main()
