"""Reading identities from certificates, and their dates."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dwd.base.errors import Unauthenticated, VersionRefused
from dwd.base.ids import ClusterId, NodeId
from dwd.security.authority import create_authority
from dwd.security.credentials import request_certificate
from dwd.security.peers import PeerKind, check_validity, load_certificate, parse_identity

CLUSTER = ClusterId("c1" * 16)
DAY_MS = 86_400_000


def test_node_is_read_when_certificate_is_der_or_pem(authority, clock) -> None:
    pem = authority.sign_node(request_certificate().request, NodeId(0xAB), clock=clock, days=3)
    der = load_certificate(pem).public_bytes(Encoding.DER)
    peer = parse_identity(pem, CLUSTER)
    assert peer == parse_identity(der, CLUSTER)
    assert (peer.kind, peer.node_id, str(peer)) == (PeerKind.NODE, 0xAB, "node/00000000000000ab")
    assert peer.expires_unix_ms == clock.now_ms + 3 * DAY_MS


def test_operator_has_no_node_when_read(authority, clock) -> None:
    peer = parse_identity(authority.issue_operator("0000000000000001", clock=clock).certificate, CLUSTER)
    assert (peer.kind, peer.node_id) == (PeerKind.OPERATOR, None)


def test_identity_is_refused_when_of_another_cluster(authority, clock) -> None:
    other = create_authority(ClusterId("d2" * 16), clock=clock)
    with pytest.raises(VersionRefused) as caught:
        parse_identity(other.issue_operator("ann", clock=clock).certificate, CLUSTER)
    assert caught.value.code == "security.wrong_cluster"


def test_identity_is_refused_when_certificate_names_nobody(authority) -> None:
    with pytest.raises(Unauthenticated) as caught:
        parse_identity(authority.certificate, CLUSTER)
    assert caught.value.code == "security.no_identity"


@pytest.mark.parametrize(
    "uris",
    [
        [f"spiffe://{CLUSTER}/node/00000000000000ab", f"spiffe://{CLUSTER}/operator/ann"],
        [f"spiffe://{CLUSTER}/node/xyz"],
        [f"spiffe://{CLUSTER}/king/ann"],
        [f"spiffe://{CLUSTER}/operator/ann/more"],
        [f"https://{CLUSTER}/operator/ann"],
    ],
)
def test_identity_is_refused_when_uris_are_not_exactly_one_valid(monkeypatch, authority, clock, uris) -> None:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(u) for u in uris])
    with monkeypatch.context() as patch:
        patch.setattr("dwd.security.authority.x509.SubjectAlternativeName", lambda _: names)
        issued = authority.issue_operator("ann", clock=clock)
    with pytest.raises(Unauthenticated):
        parse_identity(issued.certificate, CLUSTER)


def test_certificate_is_refused_when_expired(authority, clock) -> None:
    certificate = load_certificate(authority.issue_operator("ann", clock=clock, days=1).certificate)
    clock.now_ms += DAY_MS
    with pytest.raises(Unauthenticated, match=r"it expired at 2027-01-16 08:00:00 UTC; it is now 2027-01-16"):
        check_validity(certificate, clock, what="it")


def test_clock_is_blamed_when_certificate_is_not_valid_yet(authority, clock) -> None:
    certificate = load_certificate(authority.issue_operator("ann", clock=clock).certificate)
    clock.now_ms -= DAY_MS
    with pytest.raises(Unauthenticated) as caught:
        check_validity(certificate, clock, what="it")
    assert "clock" in caught.value.hint


def test_new_certificate_is_valid_when_another_clock_is_minutes_behind(authority, clock) -> None:
    certificate = load_certificate(authority.issue_operator("ann", clock=clock).certificate)
    clock.now_ms -= 9 * 60_000
    check_validity(certificate, clock, what="it")


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"])
def test_certificate_is_refused_when_it_is_none(content) -> None:
    with pytest.raises(Unauthenticated):
        load_certificate(content)
