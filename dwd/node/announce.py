"""Workers that keep control true of what is here: this node's addresses and devices, and the layout over all devices.

A layout follows the devices that are members: the leader of control plans and applies a new one, by compare-and-swap,
when a device comes or is given up. Devices that are merely down stay in it: what they miss goes to others as hand-offs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dwd.base.clock import Clock
from dwd.base.ids import DeviceId, NodeId
from dwd.base.units import GIB
from dwd.meta.client import MetaClient
from dwd.meta.core.control.commands import AddDevice, SetDeviceState, UpdateNode
from dwd.meta.core.control.nodes import FINAL_STATES
from dwd.meta.core.control.queries import Topology as ControlState
from dwd.meta.core.control.rows import DeviceRow, DeviceState, Domain, NodeAddresses
from dwd.meta.core.versions import NEWEST
from dwd.runtime.worker import Progress

IDLE_SECONDS = 2.0
PROPOSE_SECONDS = 5.0
REASON_CHARACTERS_MAX = 200
NOT_CONFIGURED = "not among the devices of its node's settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDevice:
    """A device directory of this node. `failed` says why it is out of service, `suspect` why it may lack fragments
    that it should hold; `given_up` are the ids of devices that were here before and whose data is gone.
    """

    device: DeviceId
    weight: int
    capacity_bytes: int
    failed: str
    given_up: tuple[DeviceId, ...] = ()
    suspect: str = ""
    read_only: str = ""
    """Why nothing can be written, while it can be read."""
    zone: str = ""
    rack: str = ""
    """Where they are not the node's."""

    @property
    def state(self) -> DeviceState:
        if self.failed:
            return DeviceState.FAILED
        return DeviceState.READ_ONLY if self.read_only else DeviceState.ACTIVE


class AnnounceWorker:
    """Tells control where this node listens, what devices it has, and what versions of commands it knows."""

    name = "node.announce"
    idle_seconds = IDLE_SECONDS

    def __init__(
        self,
        *,
        node: NodeId,
        meta: MetaClient,
        clock: Clock,
        addresses: NodeAddresses,
        domain: Domain,
        devices: Callable[[], tuple[LocalDevice, ...]],
        believe: Callable[[DeviceId], None],
    ) -> None:
        """`believe` is told of a suspect device once control knows."""
        self._node = node
        self._meta = meta
        self._clock = clock
        self._addresses = addresses
        self._domain = domain
        self._devices = devices
        self._believe = believe

    async def work(self) -> Progress:
        topology = self._meta.view.topology()
        row = topology.node(self._node)
        if row is None:
            return Progress.IDLE
        deadline = self._clock.monotonic() + PROPOSE_SECONDS
        said = (row.addresses, row.domain, row.version_newest)
        if said != (self._addresses, self._domain, NEWEST):
            command = UpdateNode(node=self._node, addresses=self._addresses, domain=self._domain, version_newest=NEWEST)
            await self._meta.control(command, deadline=deadline)
        here = self._devices()
        for device in here:
            await self._announce(device, topology.device(device.device), deadline)
            for lost in device.given_up:
                before = topology.device(lost)
                if before is not None and before.state not in FINAL_STATES:
                    gone = SetDeviceState(device=lost, state=DeviceState.LOST, reason="its directory was emptied")
                    await self._meta.control(gone, deadline=deadline)
        await self._miss(topology, {known for device in here for known in (device.device, *device.given_up)}, deadline)
        return Progress.IDLE

    async def _announce(self, device: LocalDevice, row: DeviceRow | None, deadline: float) -> None:
        if device.failed and row is None:
            return
        if row is None or (not device.failed and _facts_of_row(row) != _facts(device)):
            command = AddDevice(
                device=device.device,
                node=self._node,
                weight=device.weight,
                capacity_bytes=device.capacity_bytes,
                rack=device.rack,
                zone=device.zone,
            )
            await self._meta.control(command, deadline=deadline)
        if row is not None and row.state not in FINAL_STATES:
            await self._report(device, row, deadline)
        if device.suspect and not device.failed:
            self._believe(device.device)

    async def _miss(self, topology: ControlState, known: set[DeviceId], deadline: float) -> None:
        """Devices that control believes here and the settings do not name any more."""
        for row in topology.devices:
            if (
                row.node == self._node
                and row.device not in known
                and row.state not in {DeviceState.FAILED, *FINAL_STATES}
            ):
                gone = SetDeviceState(device=row.device, state=DeviceState.FAILED, reason=NOT_CONFIGURED)
                await self._meta.control(gone, deadline=deadline)

    async def _report(self, device: LocalDevice, row: DeviceRow, deadline: float) -> None:
        """What the device can do; that it is draining is not for its node to say."""
        known = DeviceState.ACTIVE if row.state is DeviceState.DRAINING else row.state
        if device.suspect and not device.failed and known is device.state:
            # Out and in again: whoever leads the shards sees the change and recounts what the device holds.
            out = SetDeviceState(device=device.device, state=DeviceState.FAILED, reason=device.suspect)
            await self._meta.control(out, deadline=deadline)
        if known is not device.state or device.suspect:
            reason = (device.failed or device.read_only)[:REASON_CHARACTERS_MAX]
            change = SetDeviceState(device=device.device, state=device.state, reason=reason)
            await self._meta.control(change, deadline=deadline)


def _facts(device: LocalDevice) -> tuple[int, str, str]:
    """What the settings say of it. Capacity is told along, but a file system that grew moves no data by itself."""
    return device.weight, device.zone, device.rack


def _facts_of_row(row: DeviceRow) -> tuple[int, str, str]:
    return row.weight, row.zone, row.rack


def weight_of(capacity_bytes: int, share: float) -> int:
    """A device's weight in GiB of capacity times what the settings say."""
    return max(1, round(capacity_bytes / GIB * share)) if share > 0 else 0
