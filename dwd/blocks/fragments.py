"""The fragment port: what can be asked of any device of the cluster, wherever it is.

Implementations: `LocalFragments` (dwd.blocks.service) on the node that has the device, `RemoteFragments`
(dwd.blocks.rpc) over the wire, `FragmentRouter` in front of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from dwd.base.errors import Unavailable
from dwd.base.ids import BlockId, DeviceId, LayoutEpoch, NodeId
from dwd.blocks.topology import Topology
from dwd.blocks.volumes.fragment import FragmentHead, FragmentKey
from dwd.runtime.files import Buffer

BLOCKS_ASKED_MAX = 4_096
"""Blocks of one `held`, keys of one `delete`."""


class Purpose(IntEnum):
    """For whom a fragment is read or written: clients come first (dwd.blocks.pacing)."""

    CLIENT = 0
    REPAIR = 1
    URGENT = 2
    """Repair of a block that is one loss from unreadable."""


@dataclass(frozen=True, slots=True)
class CopyKey:
    """One copy of a fragment: `copy` is what `held` said of it. Written again, it is another copy."""

    key: FragmentKey
    copy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutFragment:
    """`head` is encoded (dwd.blocks.volumes.fragment). Repair may use the device's reserve."""

    device: DeviceId
    key: FragmentKey
    layout_epoch: LayoutEpoch
    head: bytes
    content: Buffer
    purpose: Purpose = Purpose.CLIENT

    @property
    def repair(self) -> bool:
        return self.purpose is not Purpose.CLIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """`content` is verified and [offset, offset + length) of the fragment, cut at its end."""

    head: FragmentHead
    content: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFragment:
    """A fragment a device has. `sound` None: its pages were not looked at. `copy` tells this copy from later ones."""

    key: FragmentKey
    length: int
    sound: bool | None = None
    copy: int = 0


class Fragments(Protocol):
    """`deadline` in seconds of the monotonic clock. Every method raises Unavailable (device or node cannot be reached),
    StorageFailed, Busy and DeadlineExceeded.
    """

    async def put(self, fragment: PutFragment, *, deadline: float) -> None:
        """Durable on return; the same fragment again replaces it. Raises NoSpace, Conflict blocks.layout_fenced."""
        ...

    async def get(
        self,
        device: DeviceId,
        key: FragmentKey,
        *,
        offset: int,
        length: int,
        deadline: float,
        purpose: Purpose = Purpose.CLIENT,
    ) -> Fetched:
        """Raises NotFound blocks.no_such_fragment, Corrupt."""
        ...

    async def delete(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        """Gone durably on return; unknown keys are no error."""
        ...

    async def delete_copies(self, device: DeviceId, copies: Sequence[CopyKey], *, deadline: float) -> None:
        """As `delete`, of those copies only: what was written since, or is being written, stays."""
        ...

    async def delete_leftovers(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        """As `delete`, but what repair wrote since this device was opened stays."""
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

    async def get(
        self,
        device: DeviceId,
        key: FragmentKey,
        *,
        offset: int,
        length: int,
        deadline: float,
        purpose: Purpose = Purpose.CLIENT,
    ) -> Fetched:
        node = self._node(device)
        if node is None:
            return await self._local.get(device, key, offset=offset, length=length, deadline=deadline, purpose=purpose)
        return await self._remote.get(
            node, device, key, offset=offset, length=length, deadline=deadline, purpose=purpose
        )

    async def delete(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        node = self._node(device)
        if node is None:
            await self._local.delete(device, keys, deadline=deadline)
        else:
            await self._remote.delete(node, device, keys, deadline=deadline)

    async def delete_copies(self, device: DeviceId, copies: Sequence[CopyKey], *, deadline: float) -> None:
        node = self._node(device)
        if node is None:
            await self._local.delete_copies(device, copies, deadline=deadline)
        else:
            await self._remote.delete_copies(node, device, copies, deadline=deadline)

    async def delete_leftovers(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        node = self._node(device)
        if node is None:
            await self._local.delete_leftovers(device, keys, deadline=deadline)
        else:
            await self._remote.delete_leftovers(node, device, keys, deadline=deadline)

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
        self,
        node: NodeId,
        device: DeviceId,
        key: FragmentKey,
        *,
        offset: int,
        length: int,
        deadline: float,
        purpose: Purpose = Purpose.CLIENT,
    ) -> Fetched: ...

    async def delete(self, node: NodeId, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None: ...

    async def delete_copies(
        self, node: NodeId, device: DeviceId, copies: Sequence[CopyKey], *, deadline: float
    ) -> None: ...

    async def delete_leftovers(
        self, node: NodeId, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float
    ) -> None: ...

    async def held(
        self, node: NodeId, device: DeviceId, blocks: Sequence[BlockId], *, verify: bool, deadline: float
    ) -> tuple[HeldFragment, ...]: ...
