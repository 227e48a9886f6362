"""What one side of a mutual TLS connection brings: a certificate, its key, and the authority it trusts."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dwd.base.errors import Corrupt
from dwd.base.ids import ClusterId
from dwd.security.peers import load_certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """All three in PEM. The key is never part of a repr."""

    cluster_id: ClusterId
    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """A fresh private key and the signing request for it, both in PEM. The key stays where it was made."""

    key: bytes = field(repr=False)
    request: bytes


def new_private_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises Corrupt for anything but an EC P-256 key."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise Corrupt("security.bad_key", "not a private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Corrupt("security.bad_key", "the private key is not of the curve P-256")
    return key


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def request_certificate() -> KeyRequest:
    """A new key and a request to sign it. The signer decides every name, so the request names nothing."""
    key = new_private_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dwd")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return KeyRequest(key=private_key_pem(key), request=request.public_bytes(serialization.Encoding.PEM))


def check_pair(certificate: bytes, key: bytes) -> None:
    """Raises Corrupt unless `key` is the private key of `certificate`."""
    expected = load_certificate(certificate).public_key()
    if load_private_key(key).public_key() != expected:
        raise Corrupt("security.key_mismatch", "the private key does not belong to the certificate")
