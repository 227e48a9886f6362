"""A daemon that cannot start says why and what to do next, on its standard error, and exits non-zero."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from tests.integration.harness import Ran, dwd_later, until
from tests.integration.install import Node


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node that has run once and is stopped. Tests work on copies."""
    node = Node(tmp_path_factory.mktemp("made") / "a")
    node.init()
    with node.daemon() as daemon:
        node.wait_ready(daemon)
        assert daemon.end() == 0
    return node


@pytest.fixture
def node(made: Node, tmp_path: Path) -> Node:
    shutil.copytree(made.root, tmp_path / "a", dirs_exist_ok=True)
    copy = Node(tmp_path / "a")
    copy.grpc, copy.s3, copy.admin = made.grpc, made.s3, made.admin
    copy.configure()
    return copy


def refused(ran: Ran, code: str, *words: str) -> None:
    """It ended by itself, non-zero, with the code, a hint, and no traceback."""
    assert ran.code not in {0, None}, ran
    assert f"({code})" in ran.err, ran.err
    assert "  next: " in ran.err, ran.err
    assert "Traceback" not in ran.err, ran.err
    for word in words:
        assert word in ran.err, (word, ran.err)


def test_run_names_init_and_join_when_the_machine_is_no_node_yet(tmp_path: Path) -> None:
    ran = Node(tmp_path).dwd("run")
    refused(ran, "identity.missing", "dwd init", "dwd join")
    assert ran.code == 3


def test_run_names_the_nearest_key_when_a_key_is_unknown(node: Node) -> None:
    node.configure("[raft]\ntick_mz = 50\n")
    ran = node.dwd("run")
    assert ran.code == 2
    assert "tick_mz" in ran.err
    assert "tick_ms" in ran.err
    assert "Traceback" not in ran.err


def test_check_config_lists_every_fault_at_once(node: Node, tmp_path: Path) -> None:
    busy = socket.socket()
    busy.bind(("127.0.0.1", 0))
    busy.listen()
    port = busy.getsockname()[1]
    with busy:
        node.s3 = f"127.0.0.1:{port}"
        node.configure(f'[[device]]\npath = "{tmp_path / "no-disk"}"\n')
        found = {fault["path"]: fault for fault in node.dwd("check-config", "--json").json["faults"]}
        assert set(found) == {"device[0].path", "listen.s3"}
        assert all(fault["hint"] for fault in found.values())
        assert node.dwd("check-config").code == 2
    node.configure()
    assert node.dwd("check-config").good().out.strip().endswith(": the settings are good")


@pytest.mark.parametrize("listener", ["grpc", "s3", "admin"])
def test_run_names_the_listener_when_its_port_is_in_use(node: Node, listener: str) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        setattr(node, listener, address)
        node.configure()
        ran = node.dwd("run")
    assert ran.code not in {0, None}
    assert address in ran.err
    assert "  next: " in ran.err
    assert "Traceback" not in ran.err


def test_second_daemon_is_refused_on_the_same_directory_and_the_first_goes_on(node: Node) -> None:
    with node.daemon() as daemon:
        node.wait_ready(daemon)
        second = Node(node.root / "second", "b")
        second.data, second.identity = node.data, node.identity
        second.configure()
        ran = second.dwd("run")
        refused(ran, "node.already_running", str(node.data))
        assert ran.code == 8
        assert node.ready()
        assert daemon.end() == 0


def test_run_refuses_data_of_another_cluster_and_leaves_it_alone(node: Node, tmp_path: Path) -> None:
    other = Node(tmp_path / "other", "other")
    other.init()
    other.data = node.data
    other.configure()
    before = (node.data / "node.json").read_bytes()
    refused(other.dwd("run"), "node.wrong_data", "belongs to node")
    assert (node.data / "node.json").read_bytes() == before


def test_run_refuses_a_directory_of_strange_files(node: Node, tmp_path: Path) -> None:
    node.data = tmp_path / "photos"
    node.data.mkdir()
    (node.data / "cat.jpg").write_bytes(b"cat")
    node.configure()
    refused(node.dwd("run"), "node.data_unknown", "cat.jpg")
    assert sorted(p.name for p in node.data.iterdir() if p.name != "lock") == ["cat.jpg"]


def test_run_refuses_an_expired_certificate(node: Node) -> None:
    """Seen from four years on: a node's certificate lasts three."""
    later = 4 * 365 * 86_400
    refused(dwd_later(later, "run", "--config", str(node.config)), "security.certificate_expired", "expired")
    checked = dwd_later(later, "check-config", "--json", "--config", str(node.config))
    assert checked.code == 2
    assert [fault["path"] for fault in checked.json["faults"]] == ["node.identity_dir"]


def test_run_refuses_a_damaged_identity(node: Node) -> None:
    path = node.identity / "node.pem"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(node.dwd("run"), "identity.damaged", str(node.identity))


def test_node_serves_what_it_can_when_a_device_directory_is_missing(node: Node, tmp_path: Path) -> None:
    """A missing disk is a fault of the device, not of the node."""
    disk = tmp_path / "disk"
    disk.mkdir()
    node.configure(f'[[device]]\npath = "{node.data / "devices" / "d0"}"\n[[device]]\npath = "{disk}"\n')
    with node.daemon() as daemon:
        node.wait_ready(daemon)
        assert daemon.end() == 0
    shutil.rmtree(disk)
    with node.daemon() as daemon:
        node.wait_ready(daemon)

        def lost() -> str:
            devices = {d["path"]: d for d in node.dwctl("cluster", "status").good().json["devices"]}
            return str(devices[str(disk)]["reason"]) if devices[str(disk)]["state"] == "failed" else ""

        assert f"{disk} is gone" in until("the lost device is shown", lost)
        assert not disk.exists(), "a missing disk's place was written to"
        assert daemon.end() == 0


def test_only_node_serves_an_older_copy_of_its_data_and_says_so(node: Node, tmp_path: Path) -> None:
    """Nobody else has more: what the copy lacks is lost, and the log tells. With peers it would come from them."""
    shutil.copytree(node.data, tmp_path / "copy")
    with node.daemon() as daemon:
        node.wait_ready(daemon)
        assert "older copy" not in daemon.text()
        assert daemon.end() == 0
    shutil.rmtree(node.data)
    shutil.copytree(tmp_path / "copy", node.data)
    with node.daemon() as daemon:
        node.wait_ready(daemon)
        assert "older copy" in daemon.text()
        assert node.dwctl("bucket", "create", "restored").code == 0
        assert daemon.end() == 0
