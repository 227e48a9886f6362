"""What only the machine can tell: each fault is made for real."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from dwd.base.ids import ClusterId, NodeId
from dwd.config.check import check
from dwd.config.load import load
from dwd.config.settings import Settings
from dwd.security import identity
from dwd.security.authority import create_authority
from dwd.security.credentials import Credential, certificate_pem, new_private_key, private_key_pem, request_certificate
from dwd.security.sealing import new_sealing_key

DAY_MS = 86_400_000


@dataclass(frozen=True)
class FixedClock:
    now_ms: int = 1_800_000_000_000

    def monotonic(self) -> float:
        return 0.0

    def unix_ms(self) -> int:
        return self.now_ms


CLOCK = FixedClock()


@pytest.fixture
def configured(tmp_path):
    def make(text: str = "") -> Settings:
        env = {
            "DWD_NODE_DATA_DIR": str(tmp_path / "data"),
            "DWD_NODE_IDENTITY_DIR": str(tmp_path / "identity"),
            "DWD_LISTEN_GRPC": "127.0.0.1:0",
            "DWD_LISTEN_S3": "127.0.0.1:0",
            "DWD_LISTEN_ADMIN": "127.0.0.1:0",
        }
        path = tmp_path / "dwd.toml"
        path.write_text(text)
        return load(path, env)

    return make


def _lines(settings: Settings, clock: FixedClock = CLOCK) -> list[str]:
    return [str(fault) for fault in check(settings, clock=clock)]


def _pair(folder: Path, *, days: int = 1) -> tuple[Path, Path]:
    key = new_private_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "s3.example")])
    now = datetime.fromtimestamp(CLOCK.now_ms / 1000, UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "s3.pem", folder / "s3.key"
    paths[0].write_bytes(certificate_pem(certificate))
    paths[1].write_bytes(private_key_pem(key))
    paths[1].chmod(0o600)
    return paths


def test_nothing_is_found_when_all_is_well(configured, tmp_path) -> None:
    certificate, key = _pair(tmp_path)
    (tmp_path / "d1").mkdir()
    text = f"[tls]\ns3_certificate = '{certificate}'\ns3_key = '{key}'\n[[device]]\npath = '{tmp_path / 'd1'}'\n"
    assert _lines(configured(text)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d1", "dwd.toml", "s3.key", "s3.pem"]


@pytest.mark.parametrize("now_ms", [0, 5_000_000_000_000])
def test_clock_is_a_fault_when_it_cannot_be_right(configured, now_ms) -> None:
    assert "clock" in _lines(configured(), FixedClock(now_ms))[0]


def test_device_is_a_fault_when_its_directory_is_missing(configured, tmp_path) -> None:
    (line,) = _lines(configured(f"[[device]]\npath = '{tmp_path / 'unmounted'}'\n"))
    assert line.startswith(f"device[0].path: {tmp_path / 'unmounted'} is not there")


def test_directory_is_a_fault_when_a_file_stands_in_the_way(configured, tmp_path) -> None:
    (tmp_path / "data").write_text("a file")
    (line,) = _lines(configured())
    assert line == f"node.data_dir: {tmp_path / 'data'} is not a directory"


def test_directory_is_a_fault_when_it_is_not_writable(configured, tmp_path, monkeypatch) -> None:
    (tmp_path / "data").mkdir()
    real = os.access
    monkeypatch.setattr("dwd.config.check.os.access", lambda p, m: p != tmp_path / "data" and real(p, m))
    (line,) = _lines(configured())
    assert line == f"node.data_dir: {tmp_path / 'data'} is not writable by this user"


def test_port_is_a_fault_when_it_is_taken_unless_the_daemon_runs(configured) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = configured()
        listen = settings.listen.model_copy(update={"s3": replace(settings.listen.s3, port=port)})
        settings = settings.model_copy(update={"listen": listen})
        (line,) = _lines(settings)
        assert line.startswith(f"listen.s3: cannot listen on 127.0.0.1:{port}: Address already in use")
        assert check(settings, clock=CLOCK, ports=False) == []


def test_certificate_is_a_fault_when_it_expired(configured, tmp_path) -> None:
    certificate, key = _pair(tmp_path, days=-1)
    (line,) = _lines(configured(f"[tls]\ns3_certificate = '{certificate}'\ns3_key = '{key}'\n"))
    assert line.startswith(f"tls.s3_certificate: {certificate} expired at")


def test_key_is_a_fault_when_it_belongs_to_another_certificate(configured, tmp_path) -> None:
    certificate, key = _pair(tmp_path)
    key.write_bytes(private_key_pem(new_private_key()))
    (line,) = _lines(configured(f"[tls]\ns3_certificate = '{certificate}'\ns3_key = '{key}'\n"))
    assert line.startswith(f"tls.s3_key: {key} does not belong to {certificate}")


def test_key_is_a_fault_when_everybody_can_read_it(configured, tmp_path) -> None:
    certificate, key = _pair(tmp_path)
    key.chmod(0o644)
    (line,) = _lines(configured(f"[tls]\ns3_certificate = '{certificate}'\ns3_key = '{key}'\n"))
    assert "can be read by everybody" in line


def test_both_files_are_faults_when_neither_is_there(configured, tmp_path) -> None:
    lines = _lines(configured("[tls]\nadmin_certificate = '/none/c'\nadmin_key = '/none/k'\n"))
    assert [line.partition(":")[0] for line in lines] == ["tls.admin_certificate", "tls.admin_key"]


def test_identity_is_a_fault_when_it_expired_or_others_can_read_it(configured, tmp_path) -> None:
    authority = create_authority(ClusterId("c1" * 16), clock=CLOCK)
    request = request_certificate()
    credential = Credential(
        cluster_id=authority.cluster_id,
        authority=authority.certificate,
        certificate=authority.sign_node(request.request, NodeId(1), clock=CLOCK, days=5),
        key=request.key,
    )
    made = identity.Identity(node_id=NodeId(1), node_name="n1", credential=credential, sealing=new_sealing_key())
    identity.create(tmp_path / "identity", made)
    assert _lines(configured()) == []
    (line,) = _lines(configured(), FixedClock(CLOCK.now_ms + 6 * DAY_MS))
    assert line.startswith("node.identity_dir: this node's certificate expired")
    (tmp_path / "identity" / "sealing.key").chmod(0o644)
    (line,) = _lines(configured())
    assert "can be read by others" in line
