"""`dwd init`: make a cluster out of nothing on its first node.

Everything is made here and now (cluster id, authority, keys, first operator, first user's key) and written down sealed;
the first `dwd run` proposes it to the one-node control group. So `init` needs no running daemon and leaves none.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dwd.base.clock import Clock, Rng
from dwd.base.errors import AlreadyExists, Corrupt
from dwd.base.ids import ID_BITS, ClusterId, NodeId, hex_id
from dwd.config.settings import Settings
from dwd.meta.core.control.presplit import initial_shards
from dwd.node.paths import Paths, paths_of
from dwd.runtime.private_files import write_private
from dwd.security import identity as identities
from dwd.security.access_keys import AccessKey, new_access_key, seal_secret
from dwd.security.authority import create_authority, seal_authority_key
from dwd.security.credentials import Credential, request_certificate
from dwd.security.identity import Identity
from dwd.security.keyring import new_keyring, seal_keyring
from dwd.security.sealing import new_sealing_key, open_sealed, seal_for

BOOTSTRAP_CONTEXT = b"cluster bootstrap"
FIRST_USER = "admin"
FIRST_OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """What the first run proposes. Bytes are already sealed with the cluster keys."""

    cluster_name: str
    authority_certificate: bytes
    sealed_authority_key: bytes
    keyring_version: int
    sealed_keyring: bytes
    default_profile: str
    user: str
    access_key: str
    sealed_secret: bytes
    shards: int = 1
    """How many the cluster begins with. Files of before there was a choice mean one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialised:
    """What `dwd init` shows."""

    cluster: ClusterId
    node: NodeId
    operator_dir: Path
    access_key: AccessKey = field(repr=False)


def initialise(
    settings: Settings, *, cluster_name: str, operator_dir: Path, clock: Clock, rng: Rng, shards: int = 1
) -> Initialised:
    """Raises AlreadyExists when this machine is a node already, InvalidArgument, StorageFailed."""
    paths = paths_of(settings)
    initial_shards(shards)
    if identities.exists(paths.identity):
        raise AlreadyExists(
            "node.already_initialised",
            f"{paths.identity} already holds a node's identity",
            hint="start it with `dwd run`; a second cluster needs other directories",
        )
    cluster = ClusterId(secrets.token_hex(16))
    node = NodeId(rng.bits(ID_BITS))
    authority = create_authority(cluster, clock=clock)
    wanted = request_certificate()
    host = settings.advertise.host
    certificate = authority.sign_node(wanted.request, node, clock=clock, names=(host,))
    ring, sealing, key = new_keyring(), new_sealing_key(), new_access_key()
    sealed_ring = seal_keyring(ring, sealing.public)
    bootstrap = Bootstrap(
        cluster_name=cluster_name,
        authority_certificate=authority.certificate,
        sealed_authority_key=seal_authority_key(ring, authority),
        keyring_version=ring.active_version,
        sealed_keyring=sealed_ring,
        default_profile=settings.s3.default_profile,
        user=FIRST_USER,
        access_key=key.id,
        sealed_secret=seal_secret(ring, key),
        shards=shards,
    )
    operator = authority.issue_operator(FIRST_OPERATOR, clock=clock)
    credential = Credential(
        cluster_id=cluster, authority=authority.certificate, certificate=certificate, key=wanted.key
    )
    sealed = seal_for(sealing.public, _encode(bootstrap), context=BOOTSTRAP_CONTEXT)
    write_private(paths.bootstrap, sealed)
    write_private(paths.keyring, sealed_ring)
    _write_operator(operator_dir, settings, cluster_name, node, operator, key)
    identity = Identity(node_id=node, node_name=settings.node.name, credential=credential, sealing=sealing)
    identities.create(paths.identity, identity)
    return Initialised(cluster=cluster, node=node, operator_dir=operator_dir, access_key=key)


def load_bootstrap(paths: Paths, identity: Identity) -> Bootstrap | None:
    """What is still to be proposed; None once it has been. Raises Corrupt."""
    if not paths.bootstrap.exists():
        return None
    try:
        document = json.loads(open_sealed(identity.sealing, paths.bootstrap.read_bytes(), context=BOOTSTRAP_CONTEXT))
        values: dict[str, Any] = document["plain"]
        values |= {name: base64.b64decode(value) for name, value in document["bytes"].items()}
        return Bootstrap(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt("node.bootstrap_damaged", f"{paths.bootstrap} cannot be read") from error


def _encode(bootstrap: Bootstrap) -> bytes:
    values = {name: getattr(bootstrap, name) for name in Bootstrap.__slots__}
    blobs = {name: base64.b64encode(v).decode() for name, v in values.items() if isinstance(v, bytes)}
    plain = {name: v for name, v in values.items() if not isinstance(v, bytes)}
    return json.dumps({"plain": plain, "bytes": blobs}).encode()


def _write_operator(
    folder: Path, settings: Settings, name: str, node: NodeId, operator: Credential, key: AccessKey
) -> None:
    """The operator's certificate and a cluster.json that dwctl reads, the first access key beside them."""
    write_private(folder / "authority.pem", operator.authority)
    write_private(folder / "operator.pem", operator.certificate)
    write_private(folder / "operator.key", operator.key)
    s3 = {"access_key": key.id, "secret_key": key.secret, "region": settings.s3.region}
    scheme = "https" if settings.tls.s3_certificate else "http"
    document = {
        "cluster": name,
        "s3": {"endpoint": f"{scheme}://{settings.listen.s3}", "endpoints": [f"{scheme}://{settings.listen.s3}"], **s3},
        "operator": {"authority": "authority.pem", "certificate": "operator.pem", "key": "operator.key"},
        "nodes": [
            {
                "id": hex_id(node),
                "name": settings.node.name,
                "region": settings.node.region,
                "zone": settings.node.zone,
                "grpc": str(settings.advertise),
                "s3": str(settings.listen.s3),
                "admin": str(settings.listen.admin),
                "data_dir": str(settings.node.data_dir),
            }
        ],
    }
    write_private(folder / "cluster.json", json.dumps(document, indent=2).encode() + b"\n")
    write_private(folder / "s3.json", json.dumps(s3).encode() + b"\n")
