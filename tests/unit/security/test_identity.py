"""The identity directory: what is written, and every way in which it can be unusable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dwd.base.errors import AlreadyExists, Corrupt, NotFound, PermissionDenied, Unauthenticated, VersionRefused
from dwd.base.ids import ClusterId, NodeId
from dwd.security import identity
from dwd.security.authority import create_authority
from dwd.security.credentials import request_certificate

GOLDEN = Path(__file__).parent / "golden"
DAY_MS = 86_400_000


@pytest.fixture
def directory(tmp_path, new_identity) -> Path:
    identity.create(tmp_path / "identity", new_identity(5))
    return tmp_path / "identity"


def test_identity_comes_back_when_loaded(tmp_path, new_identity, clock) -> None:
    made = new_identity(5)
    identity.create(tmp_path / "a" / "b", made)
    assert identity.load(tmp_path / "a" / "b", clock=clock, cluster_id=made.cluster_id) == made


def test_keys_are_private_when_written(directory) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == {"identity.json": 0o644, "authority.pem": 0o644, "node.pem": 0o600, "sealing.key": 0o600}
    assert directory.stat().st_mode & 0o777 == 0o700


def test_second_identity_is_refused_when_one_is_there(directory, new_identity, clock) -> None:
    with pytest.raises(AlreadyExists):
        identity.create(directory, new_identity(6))
    assert identity.load(directory, clock=clock).node_id == 5


def test_identity_is_made_anew_when_a_first_attempt_broke_off(directory, new_identity, clock) -> None:
    (directory / "identity.json").unlink()
    (directory / ".node.pem.new").write_bytes(b"half")
    assert not identity.exists(directory)
    identity.create(directory, new_identity(6))
    assert identity.load(directory, clock=clock).node_id == 6


def test_error_tells_what_to_run_when_there_is_no_identity(tmp_path, clock) -> None:
    with pytest.raises(NotFound) as caught:
        identity.load(tmp_path, clock=clock)
    assert "dwd join" in caught.value.hint


@pytest.mark.parametrize("name", ["node.pem", "sealing.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_identity_is_refused_when_others_can_read_a_key(directory, clock, name, mode) -> None:
    (directory / name).chmod(mode)
    with pytest.raises(PermissionDenied) as caught:
        identity.load(directory, clock=clock)
    assert f"chmod 600 {directory / name}" in caught.value.hint


@pytest.mark.parametrize("name", ["node.pem", "sealing.key", "authority.pem"])
def test_identity_is_refused_when_a_file_is_missing_or_empty(directory, clock, name) -> None:
    (directory / name).write_bytes(b"")
    with pytest.raises(Corrupt):
        identity.load(directory, clock=clock)
    (directory / name).unlink()
    with pytest.raises(Corrupt, match=f"{name} is missing"):
        identity.load(directory, clock=clock)


def test_identity_is_refused_when_of_another_cluster(directory, clock) -> None:
    with pytest.raises(VersionRefused) as caught:
        identity.load(directory, clock=clock, cluster_id=ClusterId("d2" * 16))
    assert caught.value.code == "identity.wrong_cluster"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"format": 2}, VersionRefused),
        ({"cluster_id": "d2" * 16}, Corrupt),
        ({"cluster_id": "x"}, Corrupt),
        ({"node_id": "0000000000000006"}, Corrupt),
        ({"node_id": "6"}, Corrupt),
        ({"node_name": 3}, Corrupt),
    ],
)
def test_identity_is_refused_when_its_description_was_changed(directory, clock, change, kind) -> None:
    path = directory / "identity.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(kind):
        identity.load(directory, clock=clock)


def test_identity_is_refused_when_another_authority_stands_there(directory, clock) -> None:
    (directory / "authority.pem").write_bytes(create_authority(ClusterId("c1" * 16), clock=clock).certificate)
    with pytest.raises(Corrupt, match="did not sign"):
        identity.load(directory, clock=clock)


def test_identity_is_refused_when_key_and_certificate_differ(directory, clock, new_identity) -> None:
    path = directory / "node.pem"
    certificate = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    path.write_bytes(new_identity(5).credential.key + b"".join(certificate[1:]))
    with pytest.raises(Corrupt, match="does not belong"):
        identity.load(directory, clock=clock)


def test_identity_is_refused_when_its_certificate_expired(directory, clock) -> None:
    clock.now_ms += 1095 * DAY_MS
    with pytest.raises(Unauthenticated, match="this node's certificate expired"):
        identity.load(directory, clock=clock)


def test_clock_is_blamed_when_it_is_far_behind(directory, clock) -> None:
    clock.now_ms -= 30 * DAY_MS
    with pytest.raises(Unauthenticated) as caught:
        identity.load(directory, clock=clock)
    assert "clock" in caught.value.hint


def test_new_certificate_is_kept_when_renewed(directory, authority, clock) -> None:
    present = identity.load(directory, clock=clock)
    clock.now_ms += 1000 * DAY_MS
    request = request_certificate()
    signed = authority.sign_node(request.request, NodeId(5), clock=clock)
    renewed = identity.renew(directory, present, certificate=signed, key=request.key, clock=clock)
    clock.now_ms += 1000 * DAY_MS
    assert identity.load(directory, clock=clock) == renewed
    assert identity.expires_unix_ms(renewed) > identity.expires_unix_ms(present)


def test_old_certificate_stays_when_the_new_one_is_another_nodes(directory, authority, clock) -> None:
    present = identity.load(directory, clock=clock)
    request = request_certificate()
    signed = authority.sign_node(request.request, NodeId(6), clock=clock)
    with pytest.raises(Corrupt):
        identity.renew(directory, present, certificate=signed, key=request.key, clock=clock)
    assert identity.load(directory, clock=clock) == present


def test_released_directory_loads_when_written_by_version_1(tmp_path, clock) -> None:
    shutil.copytree(GOLDEN / "identity_v1", tmp_path / "identity")
    for name in ("node.pem", "sealing.key"):
        (tmp_path / "identity" / name).chmod(0o600)
    loaded = identity.load(tmp_path / "identity", clock=clock)
    assert (loaded.cluster_id, loaded.node_id, loaded.node_name) == ("c1" * 16, 5, "n5")
