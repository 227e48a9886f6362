"""The join token: one printable string that lets a machine become a node, for a while.

    "dwd1." + base64url, unpadded, of
    [16 cluster id][8 expiry, Unix ms][1 count] count x [1 length][address]
    [2 length][authority certificate, DER][2 length][join certificate, DER][32 private scalar][4 CRC32C of it all]

It holds what mutual TLS needs, so that there is no call without it, not even the first: the joiner knows the
cluster's authority (it cannot be tricked by an impostor) and has a short-lived certificate of kind `join`.
Hazard: whoever has the token can join until it expires. It is a secret: shown once, never logged.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from dataclasses import dataclass, field

import google_crc32c
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dwd.base.clock import Clock
from dwd.base.errors import InvalidArgument
from dwd.base.ids import ClusterId
from dwd.base.units import format_duration
from dwd.security.credentials import Credential, certificate_pem, load_private_key, private_key_pem
from dwd.security.peers import PeerKind, load_certificate, parse_identity

PREFIX = "dwd1."
ADDRESSES_MAX = 16
TOKEN_CHARS_MAX = 16_384

_SCALAR_BYTES = 32
_FIXED = struct.Struct(">16sQB")
_LENGTH = struct.Struct(">H")
_CHECKSUM = struct.Struct(">I")
_ANY_PREFIX = re.compile(r"dwd(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """`addresses` are gRPC addresses of nodes to ask, `host:port`; `credential` is of kind join."""

    addresses: tuple[str, ...]
    expires_unix_ms: int
    credential: Credential = field(repr=False)

    @property
    def cluster_id(self) -> ClusterId:
        return self.credential.cluster_id


def encode_token(credential: Credential, addresses: tuple[str, ...]) -> str:
    """The printable token. Raises InvalidArgument for no or too many addresses."""
    if not 1 <= len(addresses) <= ADDRESSES_MAX or any(not 1 <= len(a.encode()) <= 255 for a in addresses):
        raise InvalidArgument("token.addresses", f"a join token names 1 to {ADDRESSES_MAX} addresses")
    peer = parse_identity(credential.certificate, credential.cluster_id)
    scalar = load_private_key(credential.key).private_numbers().private_value
    parts = [_FIXED.pack(bytes.fromhex(credential.cluster_id), peer.expires_unix_ms, len(addresses))]
    for address in addresses:
        content = address.encode()
        parts += (bytes([len(content)]), content)
    for certificate in (credential.authority, credential.certificate):
        der = load_certificate(certificate).public_bytes(serialization.Encoding.DER)
        parts += (_LENGTH.pack(len(der)), der)
    parts.append(scalar.to_bytes(_SCALAR_BYTES, "big"))
    payload = b"".join(parts)
    payload += _CHECKSUM.pack(google_crc32c.value(payload))
    return PREFIX + base64.urlsafe_b64encode(payload).rstrip(b"=").decode()


def decode_token(text: str, *, clock: Clock) -> JoinToken:
    """Raises InvalidArgument: not a token, of another version, cut off or mistyped, expired."""
    token = _parse(_payload("".join(text.split())))
    late_seconds = (clock.unix_ms() - token.expires_unix_ms) / 1000
    if late_seconds >= 0:
        raise InvalidArgument(
            "token.expired",
            f"the join token expired {format_duration(late_seconds)} ago by this machine's clock",
            hint="make a new one with `dwctl node join-token`, or set this machine's clock if it is wrong",
        )
    return token


def _payload(text: str) -> bytes:
    match = _ANY_PREFIX.match(text)
    if match is None or len(text) > TOKEN_CHARS_MAX:
        raise InvalidArgument(
            "token.malformed", "this is not a join token", hint=f"a join token starts with {PREFIX!r}"
        )
    if match.group() != PREFIX:
        raise InvalidArgument(
            "token.version",
            f"the join token has version {match.group(1)[:8]}, this dwd reads version 1",
            hint="run the same version of dwd on all nodes",
        )
    body = text[len(PREFIX) :]
    try:
        content = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise _cut_off() from error
    payload, checksum = content[: -_CHECKSUM.size], content[-_CHECKSUM.size :]
    if len(content) <= _CHECKSUM.size or _CHECKSUM.unpack(checksum)[0] != google_crc32c.value(payload):
        raise _cut_off()
    return payload


def _parse(payload: bytes) -> JoinToken:
    try:
        cluster, expires, count = _FIXED.unpack_from(payload)
        at = _FIXED.size
        addresses = []
        for _ in range(count):
            length = payload[at]
            addresses.append(payload[at + 1 : at + 1 + length].decode())
            at += 1 + length
        certificates = []
        for _ in range(2):
            (length,) = _LENGTH.unpack_from(payload, at)
            at += _LENGTH.size
            certificates.append(certificate_pem(load_certificate(payload[at : at + length])))
            at += length
        key = ec.derive_private_key(int.from_bytes(payload[at:], "big"), ec.SECP256R1())
    except (struct.error, IndexError, ValueError) as error:
        raise _cut_off() from error
    cluster_id = ClusterId(cluster.hex())
    if parse_identity(certificates[1], cluster_id).kind is not PeerKind.JOIN:
        raise InvalidArgument("token.malformed", "the token's certificate is not one for joining")
    credential = Credential(
        cluster_id=cluster_id, authority=certificates[0], certificate=certificates[1], key=private_key_pem(key)
    )
    return JoinToken(addresses=tuple(addresses), expires_unix_ms=expires, credential=credential)


def _cut_off() -> InvalidArgument:
    return InvalidArgument(
        "token.damaged", "the join token is cut off or mistyped", hint="copy the whole string, it is one word"
    )
