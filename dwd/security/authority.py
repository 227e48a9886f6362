"""The cluster's certificate authority: one EC P-256 key that says who is a node, an operator or a joiner.

Invariants: the signer decides every name (a request only proves possession of a key); operators and joiners can
never pass for a server (no server usage, no node name); a join certificate lives for minutes.
Source: RFC 5280. The key is kept sealed in the control group, so that losing the first node does not stop joins.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dwd.base.clock import Clock
from dwd.base.errors import InvalidArgument
from dwd.base.ids import ClusterId, NodeId, hex_id
from dwd.security.credentials import (
    Credential,
    certificate_pem,
    check_pair,
    load_private_key,
    new_private_key,
    private_key_pem,
)
from dwd.security.keyring import Keyring
from dwd.security.peers import (
    NODE_DOMAIN,
    PeerKind,
    check_cluster_id,
    check_validity,
    identity_uri,
    load_certificate,
    node_server_name,
)

AUTHORITY_DAYS = 7300
NODE_DAYS = 1095
OPERATOR_DAYS = 1095
JOIN_MINUTES_MAX = 7 * 24 * 60
NODE_NAMES_MAX = 32
COMMON_NAME_CHARS_MAX = 64
PURPOSE = "authority"
CONTEXT = b"cluster authority key"
BACKDATE = timedelta(minutes=10)
"""Clocks of the cluster may be off by minutes; a new certificate must already be valid on all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """`certificate` and `key` are PEM: the whole of what must be kept."""

    cluster_id: ClusterId
    certificate: bytes
    key: bytes = field(repr=False)

    def sign_node(
        self, request: bytes, node_id: NodeId, *, clock: Clock, names: Sequence[str] = (), days: int = NODE_DAYS
    ) -> bytes:
        """A node's certificate in PEM. `names` are further DNS names or IP addresses it is reached by."""
        if len(names) > NODE_NAMES_MAX:
            raise InvalidArgument("security.too_many_names", f"a node has at most {NODE_NAMES_MAX} names")
        general = [x509.DNSName(node_server_name(node_id)), x509.DNSName(NODE_DOMAIN), *map(_general_name, names)]
        return self._sign(request, PeerKind.NODE, hex_id(node_id), general, clock=clock, lasting=timedelta(days=days))

    def sign_operator(self, request: bytes, name: str, *, clock: Clock, days: int = OPERATOR_DAYS) -> bytes:
        """An operator's certificate in PEM."""
        return self._sign(request, PeerKind.OPERATOR, name, [], clock=clock, lasting=timedelta(days=days))

    def issue_operator(self, name: str, *, clock: Clock, days: int = OPERATOR_DAYS) -> Credential:
        """An operator's certificate with a key made here."""
        return self._issue(PeerKind.OPERATOR, name, clock=clock, lasting=timedelta(days=days))

    def issue_join(self, token_id: str, *, clock: Clock, minutes: int) -> Credential:
        """The certificate and key inside a join token."""
        if not 1 <= minutes <= JOIN_MINUTES_MAX:
            raise InvalidArgument(
                "security.bad_lifetime", f"a join token lasts 1 to {JOIN_MINUTES_MAX} minutes, not {minutes}"
            )
        return self._issue(PeerKind.JOIN, token_id, clock=clock, lasting=timedelta(minutes=minutes))

    def _issue(self, kind: PeerKind, name: str, *, clock: Clock, lasting: timedelta) -> Credential:
        key = new_private_key()
        certificate = self._certify(key.public_key(), kind, name, [], clock=clock, lasting=lasting)
        return Credential(
            cluster_id=self.cluster_id,
            authority=self.certificate,
            certificate=certificate,
            key=private_key_pem(key),
        )

    def _sign(
        self,
        request: bytes,
        kind: PeerKind,
        name: str,
        general: list[x509.GeneralName],
        *,
        clock: Clock,
        lasting: timedelta,
    ) -> bytes:
        return self._certify(_requested_key(request), kind, name, general, clock=clock, lasting=lasting)

    def _certify(
        self,
        key: ec.EllipticCurvePublicKey,
        kind: PeerKind,
        name: str,
        general: list[x509.GeneralName],
        *,
        clock: Clock,
        lasting: timedelta,
    ) -> bytes:
        issuer = load_certificate(self.certificate)
        check_validity(issuer, clock, what="the cluster authority's certificate")
        now = _now(clock)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if kind is PeerKind.NODE:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        uri = x509.UniformResourceIdentifier(identity_uri(self.cluster_id, kind, name))
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(f"{kind.value} {name}"))
            .issuer_name(issuer.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATE, issuer.not_valid_before_utc))
            .not_valid_after(min(now + lasting, issuer.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName([uri, *general]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_authority_key_identifier(issuer), critical=False)
        )
        return certificate_pem(builder.sign(load_private_key(self.key), hashes.SHA256()))


def create_authority(cluster_id: ClusterId, *, clock: Clock, days: int = AUTHORITY_DAYS) -> Authority:
    """A new authority for a new cluster."""
    check_cluster_id(cluster_id)
    key = new_private_key()
    subject = _subject(f"dwd cluster {cluster_id}")
    now = _now(clock)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(cluster_id=cluster_id, certificate=certificate_pem(certificate), key=private_key_pem(key))


def load_authority(cluster_id: ClusterId, certificate: bytes, key: bytes) -> Authority:
    """An authority from what was kept of it. Raises Corrupt when key and certificate do not belong together."""
    check_pair(certificate, key)
    return Authority(cluster_id=check_cluster_id(cluster_id), certificate=certificate, key=key)


def _requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        parsed = x509.load_pem_x509_csr(request)
        proven = parsed.is_signature_valid
        key = parsed.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise InvalidArgument("security.bad_request", "not a certificate signing request in PEM") from error
    if not proven:
        raise InvalidArgument("security.bad_request", "the signing request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidArgument("security.bad_request", "the signing request's key is not of the curve P-256")
    return key


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        wire = name.encode("idna").decode("ascii")
        general = x509.DNSName(wire)
    except (UnicodeError, ValueError) as error:
        raise InvalidArgument("security.bad_name", f"neither a host name nor an IP address: {name[:64]!r}") from error
    plain = wire.lower().rstrip(".")
    if "*" in plain or plain == NODE_DOMAIN or plain.endswith("." + NODE_DOMAIN):
        raise InvalidArgument("security.bad_name", f"not a name a node may ask for: {name[:64]!r}")
    return general


def _subject(name: str) -> x509.Name:
    common = name[:COMMON_NAME_CHARS_MAX]
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "dwd"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    subject_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key)


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.unix_ms() // 1000, UTC)


def seal_authority_key(ring: Keyring, authority: Authority) -> bytes:
    """The authority's key as control keeps it."""
    return ring.for_purpose(PURPOSE).seal(authority.key, context=CONTEXT)


def open_authority(ring: Keyring, cluster_id: ClusterId, *, certificate: bytes, sealed_key: bytes) -> Authority:
    """The inverse of `seal_authority_key`. Raises Corrupt, VersionRefused."""
    key = ring.for_purpose(PURPOSE).open(sealed_key, context=CONTEXT)
    return Authority(cluster_id=cluster_id, certificate=certificate, key=key)
