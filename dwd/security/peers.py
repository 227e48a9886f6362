"""Who is at the other end: the identity that a certificate of the cluster's authority carries.

An identity is one URI in the certificate (a SPIFFE id whose trust domain is the cluster):

    spiffe://<cluster id>/node/<16 hex digits>
    spiffe://<cluster id>/operator/<name>
    spiffe://<cluster id>/join/<token id>

Source: the SPIFFE-ID standard (one URI a certificate, trust domain and path); RFC 5280 4.2.1.6.
Hazard: TLS has already verified chain and dates when a peer's certificate arrives here. `check_validity` is for
certificates read from disk, and for the moment a long-lived stream outlives its certificate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from cryptography import x509

from dwd.base.clock import Clock
from dwd.base.errors import InvalidArgument, Unauthenticated, VersionRefused
from dwd.base.ids import ClusterId, NodeId, hex_id, parse_hex_id

NAME_CHARS_MAX = 64
NODE_DOMAIN = "node.dwd"
"""The DNS name every node's certificate carries: for callers who accept any node of the cluster."""

_CLUSTER_ID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(rf"[a-z0-9](?:[a-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}})")
_URI = re.compile(r"spiffe://([^/]+)/([a-z]+)/([^/]+)")


class PeerKind(Enum):
    """What a certificate allows its bearer to be."""

    NODE = "node"
    OPERATOR = "operator"
    JOIN = "join"
    """Whoever holds a join token: may ask to become a node, nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A caller whose certificate is signed by this cluster's authority. `node_id` is set for nodes only."""

    kind: PeerKind
    name: str
    node_id: NodeId | None
    expires_unix_ms: int

    def __str__(self) -> str:
        return f"{self.kind.value}/{self.name}"


def node_server_name(node_id: NodeId) -> str:
    """The DNS name in that node's certificate, and in no other: the TLS name to expect when calling it."""
    return f"{hex_id(node_id)}.{NODE_DOMAIN}"


def identity_uri(cluster_id: ClusterId, kind: PeerKind, name: str) -> str:
    """The URI for a certificate. Raises InvalidArgument for names outside `[a-z0-9._-]`."""
    check_cluster_id(cluster_id)
    if _NAME.fullmatch(name) is None:
        raise InvalidArgument(
            "security.bad_name",
            f"not a name for a certificate: {name[:NAME_CHARS_MAX]!r}",
            hint=f"use 1 to {NAME_CHARS_MAX} of a-z, 0-9, dot, dash and underscore, the first a letter or digit",
        )
    return f"spiffe://{cluster_id}/{kind.value}/{name}"


def check_cluster_id(cluster_id: str) -> ClusterId:
    if _CLUSTER_ID.fullmatch(cluster_id) is None:
        raise InvalidArgument("security.bad_cluster_id", f"not a cluster id of 32 hex digits: {cluster_id[:40]!r}")
    return ClusterId(cluster_id)


def parse_identity(certificate: bytes | x509.Certificate, cluster_id: ClusterId) -> Peer:
    """The peer a certificate (DER, PEM or parsed) names.

    Raises VersionRefused for another cluster's certificate, Unauthenticated for one that names nobody.
    """
    parsed = certificate if isinstance(certificate, x509.Certificate) else load_certificate(certificate)
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    match = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if match is None:
        raise Unauthenticated("security.no_identity", "the certificate carries no identity of a dwd cluster")
    domain, kind_name, name = match.groups()
    if domain != cluster_id:
        raise VersionRefused(
            "security.wrong_cluster",
            f"the certificate belongs to cluster {domain[:32]}, this is cluster {cluster_id}",
            hint="use the identity and context of this cluster",
        )
    kinds = {kind.value: kind for kind in PeerKind}
    if kind_name not in kinds or _NAME.fullmatch(name) is None:
        raise Unauthenticated("security.no_identity", f"the certificate names an unknown kind of peer: {kind_name!r}")
    kind = kinds[kind_name]
    try:
        node_id = NodeId(parse_hex_id(name)) if kind is PeerKind.NODE else None
    except InvalidArgument as error:
        raise Unauthenticated("security.no_identity", f"the certificate names no valid node: {name!r}") from error
    return Peer(
        kind=kind, name=name, node_id=node_id, expires_unix_ms=int(parsed.not_valid_after_utc.timestamp() * 1000)
    )


def load_certificate(content: bytes) -> x509.Certificate:
    """A certificate from DER or PEM. Raises Unauthenticated."""
    try:
        if content.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificate(content)
        return x509.load_der_x509_certificate(content)
    except ValueError as error:
        raise Unauthenticated("security.bad_certificate", f"not a certificate: {error}") from error


def check_validity(certificate: x509.Certificate, clock: Clock, *, what: str) -> None:
    """Raises Unauthenticated when `certificate` (called `what` in the message) is not valid at this moment."""
    now = datetime.fromtimestamp(clock.unix_ms() / 1000, UTC)
    if now >= certificate.not_valid_after_utc:
        raise Unauthenticated(
            "security.certificate_expired",
            f"{what} expired at {_readable(certificate.not_valid_after_utc)}; it is now {_readable(now)}",
            hint="renew it; if the time shown is wrong, set this machine's clock",
        )
    if now < certificate.not_valid_before_utc:
        raise Unauthenticated(
            "security.certificate_not_yet_valid",
            f"{what} is not valid before {_readable(certificate.not_valid_before_utc)}; it is now {_readable(now)}",
            hint="check this machine's clock: it is probably behind",
        )


def _readable(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
