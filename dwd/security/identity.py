"""The identity directory: who this node is, apart from its data, so that a wiped data directory keeps its node.

    identity.json   format, cluster id, node id, node name; written last: without it there is no identity
    authority.pem   the cluster authority's certificate
    node.pem        the node's private key and certificate, in one file so that a renewal replaces both at once (0600)
    sealing.key     X25519 private key, 64 hex digits; what the cluster sends this node is sealed for it (0600)

Invariants: `load` answers only with an identity that can be used: complete, private, of the expected cluster, key
and certificate belonging together, certificate naming this node, signed by the authority, valid now.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from dwd.base.clock import Clock
from dwd.base.errors import (
    AlreadyExists,
    Corrupt,
    DwError,
    NotFound,
    PermissionDenied,
    StorageFailed,
    VersionRefused,
)
from dwd.base.ids import ClusterId, NodeId, hex_id, parse_hex_id
from dwd.runtime.private_files import PRIVATE_DIRECTORY, write_private
from dwd.security.credentials import Credential, check_pair
from dwd.security.peers import check_cluster_id, check_validity, load_certificate, parse_identity
from dwd.security.sealing import SealingKey, sealing_key

FORMAT = 1
IDENTITY_FILE = "identity.json"
AUTHORITY_FILE = "authority.pem"
NODE_FILE = "node.pem"
SEALING_FILE = "sealing.key"
FILE_BYTES_MAX = 65_536
RESTORE = "restore the identity directory from a backup, or empty it and join the cluster as a new node"

_CERTIFICATE_MARK = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Everything that makes this machine that node."""

    node_id: NodeId
    node_name: str
    credential: Credential
    sealing: SealingKey = field(repr=False)

    @property
    def cluster_id(self) -> ClusterId:
        return self.credential.cluster_id


def exists(directory: Path) -> bool:
    """Whether a complete identity was once written there."""
    return (directory / IDENTITY_FILE).exists()


def create(directory: Path, identity: Identity) -> None:
    """Write a new identity durably. Raises AlreadyExists, StorageFailed."""
    if exists(directory):
        raise AlreadyExists(
            "identity.exists",
            f"{directory} already holds a node's identity",
            hint="this machine is a node already; remove the directory only to give up that node for good",
        )
    try:
        directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        directory.chmod(PRIVATE_DIRECTORY)
    except OSError as error:
        raise StorageFailed("identity.not_written", f"cannot write {directory}: {error.strerror}") from error
    write_private(directory / AUTHORITY_FILE, identity.credential.authority, mode=0o644)
    write_private(directory / NODE_FILE, _node_file(identity.credential))
    write_private(directory / SEALING_FILE, identity.sealing.private.hex().encode() + b"\n")
    write_private(directory / IDENTITY_FILE, _describe(identity), mode=0o644)


def renew(directory: Path, identity: Identity, *, certificate: bytes, key: bytes, clock: Clock) -> Identity:
    """Replace the node's certificate and key by new ones (PEM), at once and durably."""
    renewed = replace(identity, credential=replace(identity.credential, certificate=certificate, key=key))
    _check(directory, renewed, clock)
    write_private(directory / NODE_FILE, _node_file(renewed.credential))
    return renewed


def load(directory: Path, *, clock: Clock, cluster_id: ClusterId | None = None) -> Identity:
    """This node's identity; of cluster `cluster_id`, when the caller knows it.

    Raises NotFound (no identity), PermissionDenied (a key others can read), VersionRefused (another cluster, a later
    format), Corrupt (damaged or not belonging together), Unauthenticated (certificate expired or not yet valid).
    """
    if not exists(directory):
        raise NotFound(
            "identity.missing",
            f"{directory} holds no node identity",
            hint="run `dwd init` on the first node of a cluster, `dwd join TOKEN` on the others",
        )
    node_id, node_name, own_cluster = _parse_description(directory / IDENTITY_FILE)
    if cluster_id is not None and own_cluster != cluster_id:
        raise VersionRefused(
            "identity.wrong_cluster",
            f"{directory} is a node of cluster {own_cluster}, the data here belongs to cluster {cluster_id}",
            hint="point identity_dir and data_dir at the same node",
        )
    key, mark, certificate = _read(directory / NODE_FILE, secret=True).partition(_CERTIFICATE_MARK)
    identity = Identity(
        node_id=node_id,
        node_name=node_name,
        credential=Credential(
            cluster_id=own_cluster,
            authority=_read(directory / AUTHORITY_FILE, secret=False),
            certificate=mark + certificate,
            key=key,
        ),
        sealing=_load_sealing(directory / SEALING_FILE),
    )
    _check(directory, identity, clock)
    return identity


def _check(directory: Path, identity: Identity, clock: Clock) -> None:
    credential = identity.credential
    try:
        check_pair(credential.certificate, credential.key)
        certificate = load_certificate(credential.certificate)
        authority = load_certificate(credential.authority)
        certificate.verify_directly_issued_by(authority)
        peer = parse_identity(certificate, credential.cluster_id)
    except (ValueError, TypeError, InvalidSignature, DwError) as error:
        reason = error.message if isinstance(error, DwError) else "the authority did not sign the certificate"
        raise Corrupt(
            "identity.damaged", f"the identity in {directory} does not hold together: {reason}", hint=RESTORE
        ) from error
    if peer.node_id != identity.node_id:
        raise Corrupt(
            "identity.damaged",
            f"the certificate in {directory} names {peer}, the identity is node/{hex_id(identity.node_id)}",
            hint=RESTORE,
        )
    check_validity(authority, clock, what="the cluster authority's certificate")
    check_validity(certificate, clock, what="this node's certificate")


def expires_unix_ms(identity: Identity) -> int:
    """When this node's certificate ends: for whoever renews it, and for the health page."""
    certificate: x509.Certificate = load_certificate(identity.credential.certificate)
    return int(certificate.not_valid_after_utc.timestamp() * 1000)


def _describe(identity: Identity) -> bytes:
    description = {
        "format": FORMAT,
        "cluster_id": identity.cluster_id,
        "node_id": hex_id(identity.node_id),
        "node_name": identity.node_name,
    }
    return json.dumps(description, indent=2).encode() + b"\n"


def _parse_description(path: Path) -> tuple[NodeId, str, ClusterId]:
    try:
        description = json.loads(_read(path, secret=False))
        form = description["format"]
        name = description["node_name"]
        node_id = NodeId(parse_hex_id(description["node_id"]))
        cluster_id = check_cluster_id(description["cluster_id"])
    except (ValueError, KeyError, TypeError, DwError) as error:
        raise Corrupt("identity.damaged", f"{path} is damaged", hint=RESTORE) from error
    if form != FORMAT:
        raise VersionRefused("identity.format", f"{path} has format {form!r}, this dwd reads {FORMAT}")
    if not isinstance(name, str):
        raise Corrupt("identity.damaged", f"{path} is damaged: node_name is not a string", hint=RESTORE)
    return node_id, name, cluster_id


def _load_sealing(path: Path) -> SealingKey:
    try:
        return sealing_key(bytes.fromhex(_read(path, secret=True).decode("ascii")))
    except ValueError as error:
        raise Corrupt("identity.damaged", f"{path} is damaged", hint=RESTORE) from error


def _node_file(credential: Credential) -> bytes:
    return credential.key.rstrip() + b"\n" + credential.certificate


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if secret and mode & 0o077:
                raise PermissionDenied(
                    "identity.permissions",
                    f"{path} can be read by others (mode {mode & 0o777:o})",
                    hint=f"chmod 600 {path}",
                )
            return os.read(descriptor, FILE_BYTES_MAX)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise Corrupt("identity.damaged", f"{path} is missing", hint=RESTORE) from error
    except OSError as error:
        raise StorageFailed("identity.unreadable", f"cannot read {path}: {error.strerror}") from error
