"""A cluster of block stores in one process: real devices on a temporary directory, nodes joined by memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random  # noqa: TID251 - seeded, in a test
from typing import Any

from dwd.base.errors import DwError, Unavailable
from dwd.base.ids import BlockId, ClusterId, DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.device import Device
from dwd.blocks.device_facts import DeviceOptions
from dwd.blocks.fragments import CopyKey, Fetched, FragmentRouter, HeldFragment, Purpose, PutFragment
from dwd.blocks.marker import format_device, read_marker
from dwd.blocks.service import LocalFragments
from dwd.blocks.store import ErasureBlockStore
from dwd.blocks.topology import DeviceHealth, DeviceView, layout_devices
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.runtime.clock import SystemClock
from dwd.runtime.os_files import OsFiles

CLUSTER = ClusterId("c" * 32)


class SeededRng:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def bits(self, count: int) -> int:
        return self._random.getrandbits(count)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class MemoryTopology:
    """One for all nodes; `as_seen_by` gives each its own `local_node`."""

    def __init__(self) -> None:
        self.views: dict[DeviceId, DeviceView] = {}
        self.layouts: list[Layout] = []

    def relayout(self) -> Layout:
        layout = plan_layout(
            layout_devices(list(self.views.values())),
            epoch=LayoutEpoch(len(self.layouts) + 1),
            previous=self.layouts[-1] if self.layouts else None,
            partitions=64,
        )
        self.layouts.append(layout)
        return layout

    def set_health(self, device: DeviceId, health: DeviceHealth, since_ms: int = 1) -> None:
        down_since_ms = 0 if health is DeviceHealth.UP else since_ms
        self._change(device, health=health, down_since_ms=down_since_ms)

    def set_writable(self, device: DeviceId, writable: bool) -> None:
        self._change(device, writable=writable)

    def _change(self, device: DeviceId, **changes: Any) -> None:
        view = self.views[device]
        self.views[device] = replace(view, **changes, changed_ms=view.changed_ms + 1)


class NodeTopology:
    def __init__(self, shared: MemoryTopology, node: NodeId) -> None:
        self._shared, self._node = shared, node

    @property
    def local_node(self) -> NodeId:
        return self._node

    def devices(self) -> Mapping[DeviceId, DeviceView]:
        return self._shared.views

    def layout(self) -> Layout:
        if not self._shared.layouts:
            raise Unavailable("blocks.no_layout", "no layout yet")
        return self._shared.layouts[-1]

    def layout_of(self, epoch: LayoutEpoch) -> Layout | None:
        return next((layout for layout in self._shared.layouts if layout.epoch == epoch), None)


class MemoryWire:
    """`NodeFragments` between nodes of one process. Nodes in `dead` refuse, those in `stuck` never answer."""

    def __init__(self) -> None:
        self.services: dict[NodeId, LocalFragments] = {}
        self.dead: set[NodeId] = set()
        self.stuck: dict[NodeId, asyncio.Event] = {}
        self.calls = 0

    async def put(self, node: NodeId, fragment: PutFragment, *, deadline: float) -> None:
        await (await self._reach(node)).put(fragment, deadline=deadline)

    async def get(
        self,
        node: NodeId,
        device: DeviceId,
        key: FragmentKey,
        *,
        offset: int,
        length: int,
        deadline: float,
        purpose: Purpose = Purpose.CLIENT,
    ) -> Fetched:
        return await (await self._reach(node)).get(
            device, key, offset=offset, length=length, deadline=deadline, purpose=purpose
        )

    async def delete(self, node: NodeId, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        await (await self._reach(node)).delete(device, keys, deadline=deadline)

    async def delete_copies(
        self, node: NodeId, device: DeviceId, copies: Sequence[CopyKey], *, deadline: float
    ) -> None:
        await (await self._reach(node)).delete_copies(device, copies, deadline=deadline)

    async def delete_leftovers(
        self, node: NodeId, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float
    ) -> None:
        await (await self._reach(node)).delete_leftovers(device, keys, deadline=deadline)

    async def held(
        self, node: NodeId, device: DeviceId, blocks: Sequence[BlockId], *, verify: bool, deadline: float
    ) -> tuple[HeldFragment, ...]:
        return await (await self._reach(node)).held(device, blocks, verify=verify, deadline=deadline)

    async def _reach(self, node: NodeId) -> LocalFragments:
        self.calls += 1
        if node in self.stuck:
            await self.stuck[node].wait()
        if node in self.dead:
            raise Unavailable("rpc.unavailable", f"node {node} is dead")
        return self.services[node]


class MemoryCluster:
    """`nodes` nodes of `devices` devices each. Use as an async context manager."""

    def __init__(self, path: Path, *, nodes: int = 6, devices: int = 1, volume_bytes: int = 1 << 26) -> None:
        self.path, self.clock, self.files = path, SystemClock(), OsFiles()
        self.rng = SeededRng(1)
        self.topology, self.wire = MemoryTopology(), MemoryWire()
        self.pool = ThreadPoolExecutor(4)
        self.volume_bytes = volume_bytes
        self.failures: list[tuple[DeviceId, DwError]] = []
        self.node_ids = [NodeId(n + 1) for n in range(nodes)]
        self._per_node = devices
        self.stores: dict[NodeId, ErasureBlockStore] = {}

    async def __aenter__(self) -> MemoryCluster:
        for node in self.node_ids:
            self.wire.services[node] = LocalFragments(self.clock)
            for number in range(self._per_node):
                await self.add_device(node, number)
        self.topology.relayout()
        for node in self.node_ids:
            self.stores[node] = ErasureBlockStore(
                topology=NodeTopology(self.topology, node), fragments=self.router(node), clock=self.clock, rng=self.rng
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for event in self.wire.stuck.values():
            event.set()
        for store in self.stores.values():
            await store.close()
        for service in self.wire.services.values():
            await service.close()
        self.pool.shutdown()

    async def add_device(self, node: NodeId, number: int) -> Device:
        path = self.path / f"node{node}-device{number}"
        marker = format_device(self.files, path, CLUSTER, self.rng)
        device = await self.open_device(path)
        self.wire.services[node].add(device)
        self.topology.views[marker.device] = DeviceView(
            device=marker.device, node=node, zone="", rack="", weight=100, health=DeviceHealth.UP
        )
        return device

    async def open_device(self, path: Path) -> Device:
        device = Device(
            files=self.files, path=path, marker=read_marker(self.files, path, CLUSTER), pool=self.pool,
            clock=self.clock, on_failed=lambda d, e: self.failures.append((d, e)),
            options=DeviceOptions(volume_bytes=self.volume_bytes, allocate_bytes=1 << 20),
        )  # fmt: skip
        await device.open()
        return device

    def router(self, node: NodeId) -> FragmentRouter:
        return FragmentRouter(NodeTopology(self.topology, node), self.wire.services[node], self.wire)

    def kill(self, node: NodeId, *, noticed: bool = True) -> None:
        self.wire.dead.add(node)
        if noticed:
            for device in self.devices_of(node):
                self.topology.set_health(device, DeviceHealth.DOWN)

    def revive(self, node: NodeId) -> None:
        self.wire.dead.discard(node)
        for device in self.devices_of(node):
            self.topology.set_health(device, DeviceHealth.UP)

    def devices_of(self, node: NodeId) -> list[DeviceId]:
        return [view.device for view in self.topology.views.values() if view.node == node]

    def device(self, device: DeviceId) -> Device:
        return next(d for s in self.wire.services.values() for d in s.devices() if d.id == device)

    @property
    def soon(self) -> float:
        return self.clock.monotonic() + 20.0
