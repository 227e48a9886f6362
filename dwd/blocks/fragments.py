"""The fragment port: what can be asked of any device of the cluster, wherever it is.

Implementations: `LocalFragments` (dwd.blocks.service) on the node that has the device, `RemoteFragments`
(dwd.blocks.rpc) over the wire, `FragmentRouter` in front of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dwd.base.errors import Unavailable
from dwd.base.ids import BlockId, DeviceId, LayoutEpoch, NodeId
from dwd.blocks.topology import Topology
from dwd.blocks.volumes.fragment import FragmentHead, FragmentKey
from dwd.runtime.files import Buffer

BLOCKS_ASKED_MAX = 4_096
"""Blocks of one `held`, keys of one `delete`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutFragment:
    """`head` is encoded (dwd.blocks.volumes.fragment). `repair` may use the device's reserve."""

    device: DeviceId
    key: FragmentKey
    layout_epoch: LayoutEpoch
    head: bytes
    content: Buffer
    repair: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """`content` is verified and [offset, offset + length) of the fragment, cut at its end."""

    head: FragmentHead
    content: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFragment:
    """A fragment a device has. `sound` None: its pages were not looked at."""

    key: FragmentKey
    length: int
    sound: bool | None = None


class Fragments(Protocol):
    """`deadline` in seconds of the monotonic clock. Every method raises Unavailable (device or node cannot be reached),
    StorageFailed, Busy and DeadlineExceeded.
    """

    async def put(self, fragment: PutFragment, *, deadline: float) -> None:
        """Durable on return; the same fragment again replaces it. Raises NoSpace, Conflict blocks.layout_fenced."""
        ...

    async def get(self, device: DeviceId, key: FragmentKey, *, offset: int, length: int, deadline: float) -> Fetched:
        """Raises NotFound blocks.no_such_fragment, Corrupt."""
        ...

    async def delete(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        """Gone durably on return; unknown keys are no error."""
        ...

    async def held(
        self, device: DeviceId, blocks: Sequence[BlockId], *, verify: bool, deadline: float
    ) -> tuple[HeldFragment, ...]:
        """Which fragments of these blocks the device has; with `verify` every page is read."""
        ...


class FragmentRouter:
    """Local devices directly, others through the wire."""

    def __init__(self, topology: Topology, local: Fragments, remote: NodeFragments) -> None:
        self._topology, self._local, self._remote = topology, local, remote

    async def put(self, fragment: PutFragment, *, deadline: float) -> None:
        node = self._node(fragment.device)
        if node is None:
            await self._local.put(fragment, deadline=deadline)
        else:
            await self._remote.put(node, fragment, deadline=deadline)

    async def get(self, device: DeviceId, key: FragmentKey, *, offset: int, length: int, deadline: float) -> Fetched:
        node = self._node(device)
        if node is None:
            return await self._local.get(device, key, offset=offset, length=length, deadline=deadline)
        return await self._remote.get(node, device, key, offset=offset, length=length, deadline=deadline)

    async def delete(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        node = self._node(device)
        if node is None:
            await self._local.delete(device, keys, deadline=deadline)
        else:
            await self._remote.delete(node, device, keys, deadline=deadline)

    async def held(
        self, device: DeviceId, blocks: Sequence[BlockId], *, verify: bool, deadline: float
    ) -> tuple[HeldFragment, ...]:
        node = self._node(device)
        if node is None:
            return await self._local.held(device, blocks, verify=verify, deadline=deadline)
        return await self._remote.held(node, device, blocks, verify=verify, deadline=deadline)

    def _node(self, device: DeviceId) -> NodeId | None:
        """None: here."""
        view = self._topology.devices().get(device)
        if view is None:
            raise Unavailable("blocks.unknown_device", f"device {device:016x} is not a member")
        return None if view.node == self._topology.local_node else view.node


class NodeFragments(Protocol):
    """`Fragments` of a named node."""

    async def put(self, node: NodeId, fragment: PutFragment, *, deadline: float) -> None: ...

    async def get(
        self, node: NodeId, device: DeviceId, key: FragmentKey, *, offset: int, length: int, deadline: float
    ) -> Fetched: ...

    async def delete(self, node: NodeId, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None: ...

    async def held(
        self, node: NodeId, device: DeviceId, blocks: Sequence[BlockId], *, verify: bool, deadline: float
    ) -> tuple[HeldFragment, ...]: ...
