"""Which device a directory is: new, the same, replaced, or merely not mounted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dwd.base.errors import VersionRefused
from dwd.base.ids import ClusterId, DeviceId, hex_id
from dwd.blocks.marker import MARKER, format_device
from dwd.config.sections import Device as DeviceSettings
from dwd.node import devices
from dwd.node.devices import DeviceOpener, DeviceSet, DeviceSetup, Slot, open_devices
from dwd.node.paths import Paths
from dwd.node.starts import Starts
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.os_files import OsFiles

CLUSTER = ClusterId("ab" * 16)


class Machine:
    """A node's devices through restarts. `mounted`: the paths that are file systems of their own now."""

    def __init__(self, paths: Paths, pool: ThreadPoolExecutor) -> None:
        self.paths, self.pool, self.files = paths, pool, OsFiles()
        self.mounted: set[Path] = set()
        paths.identity.mkdir(parents=True, exist_ok=True)

    async def start(self, *directories: Path, fresh: bool = False) -> list[Slot]:
        setup = DeviceSetup(
            files=self.files, vfs="", paths=self.paths, cluster=CLUSTER, make_pool=lambda: self.pool,
            clock=SystemClock(), rng=SystemRng(), volume_bytes=1 << 24, reserve_share=0.0, data_is_fresh=fresh,
            starts=Starts(self.paths, self.files, SystemRng()), on_failed=lambda _device, _error: None,
        )  # fmt: skip
        opener = DeviceOpener(setup, [DeviceSettings(path=path) for path in directories])
        found = await open_devices(setup, opener)
        for device in found.open_devices():
            await device.close()
        return found.slots


@pytest.fixture
def machine(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with ThreadPoolExecutor(2) as pool:
        made = Machine(paths, pool)
        monkeypatch.setattr(devices, "_is_mounted", lambda path: path in made.mounted)
        yield made


async def first_start(machine: Machine, path: Path) -> DeviceId:
    machine.files.make_directory(path)
    (slot,) = await machine.start(path)
    assert slot.id is not None
    assert (slot.device is not None, slot.given_up) == (True, ())
    return slot.id


async def test_directory_is_the_same_device_after_a_restart(machine: Machine, tmp_path: Path) -> None:
    device = await first_start(machine, tmp_path / "d0")
    (slot,) = await machine.start(tmp_path / "d0")
    assert (slot.id, slot.given_up, slot.reason) == (device, (), "")


async def test_missing_directory_is_made_when_it_was_never_seen(machine: Machine, tmp_path: Path) -> None:
    (slot,) = await machine.start(tmp_path / "new" / "d0")
    assert slot.device is not None


async def test_device_is_out_of_service_when_its_directory_is_gone(machine: Machine, tmp_path: Path) -> None:
    device = await first_start(machine, tmp_path / "d0")
    shutil.rmtree(tmp_path / "d0")
    (slot,) = await machine.start(tmp_path / "d0")
    assert (slot.id, slot.device, slot.given_up) == (device, None, ())
    assert hex_id(device) in slot.reason
    assert not (tmp_path / "d0").exists()


async def test_device_is_out_of_service_when_its_disk_is_not_mounted(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "d0"
    machine.mounted.add(path)
    device = await first_start(machine, path)
    shutil.rmtree(path)
    path.mkdir()
    machine.mounted.clear()
    (slot,) = await machine.start(path)
    assert (slot.id, slot.device, slot.given_up) == (device, None, ())
    assert f"file system of {path}" in slot.reason
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("fresh", [False, True])
async def test_device_is_out_of_service_when_the_disk_above_its_directory_is_not_mounted(
    machine: Machine, *, fresh: bool
) -> None:
    path = machine.paths.data / "devices" / "d0"
    machine.mounted.add(machine.paths.data)
    device = await first_start(machine, path)
    shutil.rmtree(path)
    machine.mounted.clear()
    if not fresh:
        path.mkdir()  # the root file system has such a directory too
    (slot,) = await machine.start(path, fresh=fresh)
    assert (slot.id, slot.device, slot.given_up) == (device, None, ())
    assert str(machine.paths.data) in slot.reason


async def test_new_disk_takes_the_place_of_the_old_one_when_it_is_mounted(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "d0"
    machine.mounted.add(path)
    old = await first_start(machine, path)
    shutil.rmtree(path)
    path.mkdir()
    (slot,) = await machine.start(path)
    assert slot.given_up == (old,)
    assert slot.id not in {None, old}


async def test_emptied_directory_becomes_a_new_device(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "d0"
    old = await first_start(machine, path)
    shutil.rmtree(path)
    path.mkdir()
    (slot,) = await machine.start(path)
    assert (slot.given_up, slot.id not in {None, old}) == ((old,), True)
    (again,) = await machine.start(path)
    assert (again.id, again.given_up) == (slot.id, ())


async def test_directory_with_files_but_no_marker_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "d0"
    device = await first_start(machine, path)
    (path / MARKER).unlink()
    (slot,) = await machine.start(path)
    assert (slot.id, slot.device) == (device, None)
    assert "holds files but no" in slot.reason
    assert not (path / MARKER).exists()


async def test_device_that_was_put_into_another_slot_keeps_its_id_there(machine: Machine, tmp_path: Path) -> None:
    one, two = tmp_path / "d0", tmp_path / "d1"
    first, second = await first_start(machine, one), await first_start(machine, two)
    shutil.rmtree(one)
    two.rename(one)
    (slot,) = await machine.start(one)
    assert (slot.id, slot.given_up) == (second, (first,))


async def test_node_does_not_start_on_a_device_of_another_cluster(machine: Machine, tmp_path: Path) -> None:
    format_device(machine.files, tmp_path / "d0", ClusterId("cd" * 16), SystemRng())
    with pytest.raises(VersionRefused):
        await machine.start(tmp_path / "d0")


async def test_device_inside_a_replaced_data_directory_is_made_anew(machine: Machine) -> None:
    path = machine.paths.data / "devices" / "d0"
    old = await first_start(machine, path)
    shutil.rmtree(machine.paths.data)
    (kept,) = await machine.start(path)
    assert (kept.device, kept.id) == (None, old), "the data directory may be unmounted too"
    (slot,) = await machine.start(path, fresh=True)
    assert (slot.device is not None, slot.given_up) == (True, (old,))


async def test_other_devices_serve_when_one_cannot(machine: Machine, tmp_path: Path) -> None:
    await first_start(machine, tmp_path / "d0")
    shutil.rmtree(tmp_path / "d0")
    (tmp_path / "d1").mkdir()
    broken, sound = await machine.start(tmp_path / "d0", tmp_path / "d1")
    assert (broken.device, sound.device is not None) == (None, True)


async def test_markers_speak_for_themselves_when_the_record_is_damaged(machine: Machine, tmp_path: Path) -> None:
    device = await first_start(machine, tmp_path / "d0")
    machine.paths.known_devices.write_text("{nonsense")
    (slot,) = await machine.start(tmp_path / "d0")
    assert (slot.id, slot.given_up) == (device, ())
    record = json.loads(machine.paths.known_devices.read_text())
    assert record[str(tmp_path / "d0")]["device"] == hex_id(device)
    assert machine.paths.known_devices.stat().st_mode & 0o777 == 0o600


async def test_device_is_suspect_when_an_older_copy_of_its_directory_was_put_back(
    machine: Machine, tmp_path: Path
) -> None:
    path = tmp_path / "d0"
    device = await first_start(machine, path)
    shutil.copytree(path, tmp_path / "copy")
    assert (await machine.start(path))[0].suspect == ""
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "copy", path)
    (slot,) = await machine.start(path)
    assert (slot.id, slot.suspect) == (device, "it came back as an older copy")
    assert (await machine.start(path))[0].suspect, "until the cluster knows"
    DeviceSet([slot], Starts(machine.paths, machine.files, SystemRng())).believe(device)
    assert slot.suspect == ""
    assert (await machine.start(path))[0].suspect == ""
