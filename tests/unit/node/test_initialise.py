"""`dwd init` and `dwd join`: what they write, for whose eyes, and that they can be repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from dwd.admin.newcomer import Newcomer
from dwd.admin.rpc.joining import Admitted
from dwd.base.errors import AlreadyExists, Corrupt, Unavailable
from dwd.base.ids import ClusterId, NodeId
from dwd.config.settings import Settings
from dwd.node import joining
from dwd.node.initialise import Initialised, initialise, load_bootstrap
from dwd.node.paths import Paths
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.security import identity as identities
from dwd.security.access_keys import PURPOSE, open_secret
from dwd.security.authority import Authority, open_authority
from dwd.security.keyring import open_keyring, seal_keyring
from dwd.security.tokens import JoinToken, decode_token, encode_token
from tests.unit.node.conftest import write_settings

CLOCK = SystemClock()


def init(settings: Settings) -> Initialised:
    folder = settings.node.identity_dir.parent / "operator"
    return initialise(settings, cluster_name="lab", operator_dir=folder, clock=CLOCK, rng=SystemRng())


def authority_of(paths: Paths) -> Authority:
    identity = identities.load(paths.identity, clock=CLOCK)
    bootstrap = load_bootstrap(paths, identity)
    assert bootstrap is not None
    return open_authority(
        open_keyring(identity.sealing, bootstrap.sealed_keyring), identity.cluster_id,
        certificate=bootstrap.authority_certificate, sealed_key=bootstrap.sealed_authority_key,
    )  # fmt: skip


def test_init_leaves_a_node_that_can_open_all_it_must_propose(settings: Settings, paths: Paths) -> None:
    made = init(settings)
    identity = identities.load(paths.identity, clock=CLOCK)
    bootstrap = load_bootstrap(paths, identity)
    assert bootstrap is not None
    ring = open_keyring(identity.sealing, paths.keyring.read_bytes())
    assert (identity.cluster_id, identity.node_id, bootstrap.access_key) == (
        made.cluster,
        made.node,
        made.access_key.id,
    )
    secret = open_secret(ring.for_purpose(PURPOSE), bootstrap.access_key, bootstrap.sealed_secret)
    assert secret == made.access_key.secret
    assert authority_of(paths).issue_operator("o", clock=CLOCK).cluster_id == made.cluster


def test_init_writes_no_secret_that_others_can_read(settings: Settings, tmp_path: Path) -> None:
    made = init(settings)
    key = authority_of(Paths(identity=settings.node.identity_dir, data=settings.node.data_dir)).key
    for file in (f for f in tmp_path.rglob("*") if f.is_file() and f.name != "dwd.toml"):
        content = file.read_bytes()
        assert key not in content, f"{file} holds the authority's key in the open"
        private = made.access_key.secret.encode() in content or b"PRIVATE KEY" in content or file.suffix == ".sealed"
        if private:
            assert file.stat().st_mode & 0o077 == 0, f"{file} can be read by others"
    assert made.access_key.secret not in repr(made)


def test_init_is_refused_where_a_node_is(settings: Settings) -> None:
    init(settings)
    with pytest.raises(AlreadyExists, match="already holds"):
        init(settings)


def test_bootstrap_is_none_when_done_and_refused_when_damaged(settings: Settings, paths: Paths) -> None:
    init(settings)
    identity = identities.load(paths.identity, clock=CLOCK)
    paths.bootstrap.write_bytes(paths.bootstrap.read_bytes()[:-1] + b"\0")
    with pytest.raises(Corrupt):
        load_bootstrap(paths, identity)
    paths.bootstrap.unlink()
    assert load_bootstrap(paths, identity) is None


class Cluster:
    """Answers joins as a node of the cluster would; `down`: nobody answers."""

    def __init__(self, paths: Paths) -> None:
        self.authority = authority_of(paths)
        self.paths = paths
        self.asked: list[Newcomer] = []
        self.down = False
        self.other = ""

    def token(self) -> str:
        return encode_token(self.authority.issue_join("t1", clock=CLOCK, minutes=5), ("127.0.0.1:1",))

    async def ask_to_join(self, token: JoinToken, newcomer: Newcomer) -> Admitted:
        assert token.cluster_id == self.authority.cluster_id
        self.asked.append(newcomer)
        if self.down:
            raise Unavailable("join.no_node_answers", "nobody")
        own = identities.load(self.paths.identity, clock=CLOCK)
        ring = open_keyring(own.sealing, self.paths.keyring.read_bytes())
        return Admitted(
            cluster=ClusterId(self.other or self.authority.cluster_id),
            certificate=self.authority.sign_node(newcomer.request, newcomer.node, clock=CLOCK, names=("127.0.0.1",)),
            authority=self.authority.certificate,
            sealed_keyring=seal_keyring(ring, newcomer.sealing_key),
            nodes={NodeId(1): "127.0.0.1:7400"},
        )


@pytest.fixture
def cluster(settings: Settings, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    init(settings)
    made = Cluster(paths)
    monkeypatch.setattr(joining, "ask_to_join", made.ask_to_join)
    return made


async def join(settings: Settings, token: str) -> Any:
    return await joining.join(settings, token, clock=CLOCK, rng=SystemRng())


def other_node(tmp_path: Path) -> tuple[Settings, Paths]:
    settings = write_settings(tmp_path, "n2")
    return settings, Paths(identity=settings.node.identity_dir, data=settings.node.data_dir)


async def test_joined_node_has_its_identity_and_the_cluster_keys(cluster: Cluster, tmp_path: Path) -> None:
    settings, paths = other_node(tmp_path)
    made = await join(settings, cluster.token())
    loaded = identities.load(paths.identity, clock=CLOCK)
    assert (loaded.node_id, loaded.cluster_id) == (made.node_id, cluster.authority.cluster_id)
    own = identities.load(cluster.paths.identity, clock=CLOCK)
    rings = [
        open_keyring(own.sealing, cluster.paths.keyring.read_bytes()),
        open_keyring(loaded.sealing, paths.keyring.read_bytes()),
    ]
    assert rings[0].encode() == rings[1].encode()
    assert json.loads(paths.peers.read_text()) == {"0000000000000001": "127.0.0.1:7400"}
    assert not paths.joining.exists()
    with pytest.raises(AlreadyExists):
        await join(settings, cluster.token())


async def test_join_that_broke_off_is_repeated_as_the_same_node(cluster: Cluster, tmp_path: Path) -> None:
    settings, paths = other_node(tmp_path)
    cluster.down = True
    with pytest.raises(Unavailable):
        await join(settings, cluster.token())
    assert paths.joining.stat().st_mode & 0o777 == 0o600
    cluster.down = False
    await join(settings, cluster.token())
    first, second = cluster.asked
    assert first == second
    certificate = x509.load_pem_x509_certificate(identities.load(paths.identity, clock=CLOCK).credential.certificate)
    assert certificate.public_key() == x509.load_pem_x509_csr(first.request).public_key()


async def test_join_is_refused_when_another_cluster_answers(cluster: Cluster, tmp_path: Path) -> None:
    settings, paths = other_node(tmp_path)
    cluster.other = "ef" * 16
    with pytest.raises(Corrupt, match="another cluster"):
        await join(settings, cluster.token())
    assert not identities.exists(paths.identity)


async def test_join_says_what_to_remove_when_its_state_is_damaged(cluster: Cluster, tmp_path: Path) -> None:
    settings, paths = other_node(tmp_path)
    paths.joining.parent.mkdir(parents=True)
    paths.joining.write_text('{"node_id": 1}')
    with pytest.raises(Corrupt) as caught:
        await join(settings, cluster.token())
    assert "remove it" in caught.value.hint


def test_token_does_not_show_its_key_when_it_is_logged(cluster: Cluster) -> None:
    token = cluster.token()
    assert "PRIVATE" not in repr(decode_token(token, clock=CLOCK))
