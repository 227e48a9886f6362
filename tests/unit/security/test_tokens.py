"""Join tokens: what they hold, and how a bad one is told apart."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from dwd.base.errors import InvalidArgument
from dwd.security.credentials import check_pair
from dwd.security.peers import PeerKind, parse_identity
from dwd.security.tokens import PREFIX, decode_token, encode_token

GOLDEN = Path(__file__).parent / "golden"
ADDRESSES = ("10.0.0.1:7400", "[::1]:7400")


@pytest.fixture
def text(authority, clock) -> str:
    return encode_token(authority.issue_join("t1", clock=clock, minutes=30), ADDRESSES)


def test_token_gives_back_all_it_holds_when_decoded(text, authority, clock) -> None:
    token = decode_token(text, clock=clock)
    assert token.addresses == ADDRESSES
    assert token.cluster_id == authority.cluster_id
    assert token.credential.authority == authority.certificate
    assert token.expires_unix_ms == clock.now_ms + 30 * 60_000
    assert parse_identity(token.credential.certificate, token.cluster_id).kind is PeerKind.JOIN
    check_pair(token.credential.certificate, token.credential.key)


def test_token_is_read_when_wrapped_by_a_terminal(text, clock) -> None:
    wrapped = "\n ".join(text[i : i + 70] for i in range(0, len(text), 70)) + "\n"
    assert decode_token(wrapped, clock=clock).addresses == ADDRESSES


def test_token_is_refused_when_expired(text, clock) -> None:
    clock.now_ms += 30 * 60_000
    with pytest.raises(InvalidArgument) as caught:
        decode_token(text, clock=clock)
    assert caught.value.code == "token.expired"
    assert "clock" in caught.value.hint


@pytest.mark.parametrize("kept", [6, 40, 200, -4, -1])
def test_token_is_refused_when_cut_off(text, clock, kept) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_token(text[:kept], clock=clock)
    assert caught.value.code == "token.damaged"


def test_token_is_refused_when_any_character_is_mistyped(text, clock) -> None:
    for at in range(len(PREFIX), len(text), 37):
        wrong = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(InvalidArgument) as caught:
            decode_token(wrong, clock=clock)
        assert caught.value.code == "token.damaged"


def test_token_is_refused_when_of_another_version(text, clock) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_token("dwd2." + text[len(PREFIX) :], clock=clock)
    assert caught.value.code == "token.version"


@pytest.mark.parametrize("other", ["", "hello", "dwd1", PREFIX + "x" * 20_000])
def test_token_is_refused_when_it_is_something_else(clock, other) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_token(other, clock=clock)
    assert caught.value.code == "token.malformed"


def test_token_is_refused_when_its_certificate_is_an_operators(authority, clock) -> None:
    text = encode_token(authority.issue_operator("ann", clock=clock), ADDRESSES)
    with pytest.raises(InvalidArgument) as caught:
        decode_token(text, clock=clock)
    assert caught.value.code == "token.malformed"


@pytest.mark.parametrize("addresses", [(), ("a:1",) * 17, ("",), ("x" * 256,)])
def test_token_is_not_made_when_addresses_do_not_fit(authority, clock, addresses) -> None:
    with pytest.raises(InvalidArgument):
        encode_token(authority.issue_join("t1", clock=clock, minutes=5), addresses)


def test_key_stays_hidden_when_token_is_printed(text, clock) -> None:
    shown = repr(decode_token(text, clock=clock))
    assert "PRIVATE" not in shown
    assert base64.b64decode(text[len(PREFIX) :] + "==", altchars=b"-_").hex() not in shown


def test_released_token_is_read_when_written_by_version_1(clock) -> None:
    token = decode_token((GOLDEN / "token_v1.txt").read_text(), clock=clock)
    assert (token.cluster_id, token.addresses) == ("c1" * 16, ADDRESSES)
    check_pair(token.credential.certificate, token.credential.key)
