"""What the authority signs, and what it refuses to."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from dwd.base.errors import Corrupt, InvalidArgument, Unauthenticated
from dwd.base.ids import NodeId
from dwd.security.authority import Authority, create_authority, load_authority
from dwd.security.credentials import request_certificate
from dwd.security.peers import load_certificate, parse_identity

CLUSTER = "c1" * 16
DAY_MS = 86_400_000


def _usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_node_certificate_carries_its_names_when_signed(authority, clock) -> None:
    signed = authority.sign_node(
        request_certificate().request, NodeId(0xAB), clock=clock, names=("10.0.0.5", "storage-1.example")
    )
    names = load_certificate(signed).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["00000000000000ab.node.dwd", "node.dwd", "storage-1.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.5")]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{CLUSTER}/node/00000000000000ab"]


@pytest.mark.parametrize(
    "name",
    ["00000000000000ac.node.dwd", "node.dwd", "NODE.DWD.", "x.Node.dwd", "*.node.dwd", "*", "*.dwd", "\uff4eode.dwd"],
)
def test_a_node_gets_no_name_that_belongs_to_another_when_signed(authority, clock, name) -> None:
    with pytest.raises(InvalidArgument, match="name"):
        authority.sign_node(request_certificate().request, NodeId(0xAB), clock=clock, names=(name,))


def test_certificate_verifies_against_authority_when_signed(authority, clock) -> None:
    signed = load_certificate(authority.sign_node(request_certificate().request, NodeId(1), clock=clock))
    signed.verify_directly_issued_by(load_certificate(authority.certificate))


@pytest.mark.parametrize("kind", ["operator", "join"])
def test_client_cannot_pass_for_server_when_not_a_node(authority, clock, kind) -> None:
    issued = (
        authority.issue_operator("ann", clock=clock)
        if kind == "operator"
        else authority.issue_join("t1", clock=clock, minutes=5)
    )
    certificate = load_certificate(issued.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert _usages(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    assert names.get_values_for_type(x509.DNSName) == []
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_requested_names_are_ignored_when_signing(authority, clock) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")]))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{CLUSTER}/operator/root")]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    signed = load_certificate(authority.sign_node(greedy, NodeId(7), clock=clock))
    assert parse_identity(signed, authority.cluster_id).node_id == 7
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_request_is_refused_when_its_signature_is_forged(authority, clock) -> None:
    request = x509.load_pem_x509_csr(request_certificate().request).public_bytes(serialization.Encoding.DER)
    forged = bytearray(request)
    forged[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(forged)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(InvalidArgument):
        authority.sign_node(pem, NodeId(1), clock=clock)


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE REQUEST-----\n"])
def test_request_is_refused_when_it_is_none(authority, clock, content) -> None:
    with pytest.raises(InvalidArgument) as caught:
        authority.sign_operator(content, "ann", clock=clock)
    assert caught.value.code == "security.bad_request"


@pytest.mark.parametrize("name", ["", "Ann", "a/b", "../x", "a" * 65, "-a", "ä"])
def test_name_is_refused_when_it_does_not_fit_a_uri(authority, clock, name) -> None:
    with pytest.raises(InvalidArgument):
        authority.issue_operator(name, clock=clock)


@pytest.mark.parametrize("minutes", [0, -1, 10_081])
def test_join_lifetime_is_refused_when_out_of_range(authority, clock, minutes) -> None:
    with pytest.raises(InvalidArgument):
        authority.issue_join("t1", clock=clock, minutes=minutes)


def test_lifetime_is_cut_when_the_authority_ends_before(clock) -> None:
    short = create_authority("c1" * 16, clock=clock, days=10)
    signed = load_certificate(short.sign_node(request_certificate().request, NodeId(1), clock=clock))
    assert signed.not_valid_after_utc == load_certificate(short.certificate).not_valid_after_utc


def test_signing_is_refused_when_the_authority_has_expired(clock) -> None:
    short = create_authority("c1" * 16, clock=clock, days=10)
    clock.now_ms += 11 * DAY_MS
    with pytest.raises(Unauthenticated, match="authority"):
        short.issue_operator("ann", clock=clock)


def test_authority_signs_again_when_loaded_from_what_was_kept(authority, clock) -> None:
    kept = load_authority(authority.cluster_id, authority.certificate, authority.key)
    assert kept == authority


def test_authority_is_refused_when_key_and_certificate_differ(authority, clock) -> None:
    other: Authority = create_authority("c1" * 16, clock=clock)
    with pytest.raises(Corrupt):
        load_authority(authority.cluster_id, authority.certificate, other.key)


def test_keys_stay_hidden_when_printed(authority, clock) -> None:
    shown = repr(authority) + repr(authority.issue_operator("ann", clock=clock)) + repr(request_certificate())
    assert "PRIVATE" not in shown
