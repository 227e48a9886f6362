"""The device directories of this node: opened, formatted on first use, refused when they look unmounted.

What each directory held is remembered beside the identity (devices.json), away from the disks themselves. So an empty
directory is told apart from a new one: it is taken as a *new* device (the old one is given up and rebuilt elsewhere)
only when nothing suggests that a disk is merely not mounted.

    devices.json: {path: {"device": hex id, "mount": the mount point it was under}}
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import structlog

from dwd.base.clock import Clock, Rng
from dwd.base.errors import Conflict, DwError, StorageFailed, VersionRefused
from dwd.base.ids import ClusterId, DeviceId, hex_id, parse_hex_id
from dwd.blocks.device import Device
from dwd.blocks.device_facts import DeviceOptions, DeviceState
from dwd.blocks.marker import MARKER, Marker, format_device, read_marker
from dwd.config.sections import Device as DeviceSettings
from dwd.node.announce import LocalDevice, weight_of
from dwd.node.paths import Paths
from dwd.node.starts import Starts
from dwd.runtime.files import Files
from dwd.runtime.private_files import write_private

_ROOT = Path("/")
_log = structlog.get_logger("dwd.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a directory held when it was last seen well."""

    device: DeviceId
    mount: Path
    """The root of the file system it was on: the directory itself, or one above it."""


@dataclass(slots=True, kw_only=True)
class Slot:
    """One configured directory. `device` None: out of service for `reason`; `id` is the device that should be there."""

    path: Path
    share: float
    zone: str
    rack: str
    id: DeviceId | None
    device: Device | None = None
    reason: str = ""
    given_up: tuple[DeviceId, ...] = ()
    capacity_bytes: int = 0
    suspect: str = ""
    """Why fragments it should hold may be missing; until the cluster knows."""


class DeviceSet:
    """All devices of this node, in the order of the settings."""

    def __init__(self, slots: list[Slot], starts: Starts) -> None:
        self.slots = slots
        self._starts = starts

    def open_devices(self) -> tuple[Device, ...]:
        return tuple(slot.device for slot in self.slots if slot.device is not None)

    def believe(self, device: DeviceId) -> None:
        """The cluster knows that the device may lack fragments: it is recounted. Raises StorageFailed."""
        for slot in self.slots:
            if slot.id == device and slot.suspect:
                self._starts.renew(slot.path)
                slot.suspect = ""

    def local(self) -> tuple[LocalDevice, ...]:
        """For the announcer: every device id known here, with why it does not serve."""
        return tuple(_local(slot, slot.id) for slot in self.slots if slot.id is not None)


def _local(slot: Slot, device: DeviceId) -> LocalDevice:
    failed, read_only = slot.reason, ""
    if slot.device is not None:
        failed = "" if slot.device.serves else slot.device.reason or slot.device.state.value
        read_only = slot.device.reason if slot.device.state is DeviceState.READ_ONLY else ""
    return LocalDevice(
        device=device,
        weight=weight_of(slot.capacity_bytes, slot.share),
        capacity_bytes=slot.capacity_bytes,
        failed=failed,
        read_only=read_only,
        suspect=slot.suspect,
        given_up=slot.given_up,
        zone=slot.zone,
        rack=slot.rack,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSetup:
    """What opening needs. `make_pool`: threads for one device, so that a disk that hangs holds up no other.
    `data_is_fresh`: the data directory was empty at this start (new, or on a new disk).
    """

    files: Files
    vfs: str
    paths: Paths
    cluster: ClusterId
    make_pool: Callable[[], Executor]
    clock: Clock
    rng: Rng
    volume_bytes: int
    reserve_share: float
    data_is_fresh: bool
    starts: Starts
    on_failed: Callable[[DeviceId, DwError], None]


class DeviceOpener:
    """Opens the directories of this node, together and each on threads of its own."""

    def __init__(self, setup: DeviceSetup, configured: Sequence[DeviceSettings]) -> None:
        self._setup = setup
        self._known = _load_known(setup.paths)
        self._pools: dict[Path, Executor] = {}
        self.slots = [
            Slot(
                path=settings.path,
                share=settings.weight,
                zone=settings.zone,
                rack=settings.rack,
                id=before.device if (before := self._known.get(str(settings.path))) is not None else None,
            )
            for settings in configured
        ]

    async def open(self, slot: Slot) -> None:
        """Into the slot; one that cannot serve says why. Raises Conflict (another daemon has it) and VersionRefused
        (another cluster's, a later format): those are mistakes, not faults.
        """
        slot.reason = ""
        try:
            await self._open(slot)
        except (Conflict, VersionRefused):
            raise
        except DwError as error:
            slot.reason = error.message
        except OSError as error:
            slot.reason = f"{error.strerror or error} ({slot.path})"
        if slot.device is None:
            _log.error("device out of service", path=str(slot.path), reason=slot.reason)

    async def _open(self, slot: Slot) -> None:
        setup, before = self._setup, self._known.get(str(slot.path))
        pool = self._pool(slot)
        marker, given_up, made = await asyncio.get_running_loop().run_in_executor(
            pool, _mark, setup, slot.path, before
        )  # fmt: skip
        slot.id, slot.given_up = marker.device, given_up
        device = Device(
            files=setup.files,
            path=slot.path,
            marker=marker,
            pool=pool,
            clock=setup.clock,
            on_failed=setup.on_failed,
            options=DeviceOptions(
                scratch=setup.paths.data / "indexes",
                vfs=setup.vfs,
                volume_bytes=setup.volume_bytes,
                reserve_share=setup.reserve_share,
            ),
        )
        await device.open()
        try:
            slot.suspect = await device.run(lambda: _suspicion(setup, device, made=made))
            slot.capacity_bytes = (await device.run(lambda: setup.files.free_bytes(slot.path)))[1]
            self._known[str(slot.path)] = Known(device=device.id, mount=await device.run(lambda: _mount_of(slot.path)))
        except BaseException:
            await device.close()
            raise
        _save_known(setup.paths, self._known)
        slot.device = device

    async def is_back(self, slot: Slot) -> bool:
        """Whether the marker of a directory out of service can be seen: an empty one is taken as a new device only at
        a start, where somebody meant it.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool(slot), self._setup.files.exists, slot.path / MARKER
            )
        except DwError:
            return False

    def _pool(self, slot: Slot) -> Executor:
        if slot.path not in self._pools:
            self._pools[slot.path] = self._setup.make_pool()
        return self._pools[slot.path]


async def open_devices(setup: DeviceSetup, opener: DeviceOpener) -> DeviceSet:
    """Open every directory and wait for all of them. Raises as `DeviceOpener.open`."""
    outcomes = await asyncio.gather(*(opener.open(slot) for slot in opener.slots), return_exceptions=True)
    found = DeviceSet(opener.slots, setup.starts)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            for device in found.open_devices():
                await device.close()
            raise outcome
    return found


def _suspicion(setup: DeviceSetup, device: Device, *, made: bool) -> str:
    """Why the device may lack what the cluster believes it holds; empty when nothing says so."""
    if made:
        setup.starts.forget(device.path)
    if device.state is DeviceState.READ_ONLY:
        return ""  # it cannot be marked: what is missing shows when it is read
    if setup.starts.is_old(device.path):
        return "it came back as an older copy"
    if device.lost_places and not made:
        return "it lost fragments while it was away"
    setup.starts.renew(device.path)
    return ""


def _mark(setup: DeviceSetup, path: Path, before: Known | None) -> tuple[Marker, tuple[DeviceId, ...], bool]:
    """The directory's marker, the devices that are given up by it, and whether it was made now for a new device."""
    if setup.files.exists(path / MARKER):
        marker = read_marker(setup.files, path, setup.cluster)
        replaced = before is not None and before.device != marker.device
        return marker, (before.device,) if replaced and before is not None else (), False
    if before is None:
        return format_device(setup.files, path, setup.cluster, setup.rng), (), True
    _refuse_unmounted(setup, path, before)
    _log.warning("an emptied directory becomes a new device", path=str(path), given_up=hex_id(before.device))
    return format_device(setup.files, path, setup.cluster, setup.rng), (before.device,), True


def _refuse_unmounted(setup: DeviceSetup, path: Path, before: Known) -> None:
    """Raises StorageFailed unless the directory was plainly emptied or replaced."""
    if before.mount != _ROOT and before.mount != _mount_of(path):
        raise StorageFailed(
            "node.device_unmounted",
            f"{path} was on the file system of {before.mount} when it held device {hex_id(before.device)}, and is not "
            "now",
            hint="mount the disk and restart",
        )
    if not path.exists():
        if setup.data_is_fresh and path.is_relative_to(setup.paths.data):
            return  # it went with the whole data directory
        raise StorageFailed(
            "node.device_missing",
            f"{path} is gone; it held device {hex_id(before.device)}",
            hint="mount the disk; to begin anew there, create the empty directory and restart",
        )
    if any(path.iterdir()):
        raise StorageFailed(
            "node.device_unmarked",
            f"{path} holds files but no {MARKER}; it held device {hex_id(before.device)}",
            hint="restore it, or empty the directory to begin anew there",
        )


def _mount_of(path: Path) -> Path:
    """The nearest mount point at or above `path`, which need not exist."""
    return next((above for above in (path, *path.parents) if _is_mounted(above)), _ROOT)


def _is_mounted(path: Path) -> bool:
    return os.path.ismount(path)


def _load_known(paths: Paths) -> dict[str, Known]:
    """What is remembered; nothing when it cannot be read: markers on the devices then speak for themselves."""
    try:
        document = json.loads(paths.known_devices.read_text())
        return {
            path: Known(device=DeviceId(parse_hex_id(entry["device"])), mount=Path(entry["mount"]))
            for path, entry in document.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DwError):
        return {}


def _save_known(paths: Paths, known: dict[str, Known]) -> None:
    document = {path: {"device": hex_id(k.device), "mount": str(k.mount)} for path, k in sorted(known.items())}
    content = json.dumps(document, indent=2).encode() + b"\n"
    if not paths.known_devices.exists() or paths.known_devices.read_bytes() != content:
        write_private(paths.known_devices, content)
