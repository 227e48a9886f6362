"""Sealing to one node's public key: how the keyring and the authority's key reach a node and nobody else.

    box: [1 format = 1][32 ephemeral X25519 public key][ciphertext][16 tag]

The AES-256-GCM key is HKDF-SHA256(shared secret, salt = ephemeral || recipient, info = label || context): it is used
once, so its nonce is all zeros. `context` says what the box is for and where it belongs; it must be the same to open.
Source: RFC 7748, RFC 5869; the construction is that of ECIES (SEC 1, 5.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dwd.base.errors import Corrupt, InvalidArgument, VersionRefused

FORMAT = 1
KEY_BYTES = 32
TAG_BYTES = 16
HEADER_BYTES = 1 + KEY_BYTES

_LABEL = b"dwd sealed box 1\0"
_NONCE = bytes(12)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingKey:
    """A node's X25519 pair, 32 raw bytes each."""

    private: bytes = field(repr=False)
    public: bytes


def new_sealing_key() -> SealingKey:
    return sealing_key(X25519PrivateKey.generate().private_bytes_raw())


def sealing_key(private: bytes) -> SealingKey:
    """The pair of a private key that was kept. Raises Corrupt for anything but 32 bytes."""
    if len(private) != KEY_BYTES:
        raise Corrupt("security.bad_key", f"a sealing key has {KEY_BYTES} bytes, not {len(private)}")
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return SealingKey(private=private, public=public)


def seal_for(public_key: bytes, plaintext: bytes, *, context: bytes = b"") -> bytes:
    """A box only the holder of `public_key`'s private key opens. Raises InvalidArgument for a bad public key."""
    ephemeral = X25519PrivateKey.generate()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise InvalidArgument("security.bad_key", "not a public sealing key") from error
    own = ephemeral.public_key().public_bytes_raw()
    header = bytes([FORMAT]) + own
    return header + AESGCM(_derive(shared, own, public_key, context)).encrypt(_NONCE, plaintext, header)


def open_sealed(key: SealingKey, box: bytes, *, context: bytes = b"") -> bytes:
    """The plaintext of a box. Raises Corrupt when it is damaged, for another key, or of another context."""
    if len(box) < HEADER_BYTES + TAG_BYTES:
        raise Corrupt("security.box_damaged", f"a sealed box of {len(box)} bytes is too short")
    if box[0] != FORMAT:
        raise VersionRefused("security.box_format", f"sealed box of unknown format {box[0]}")
    header = box[:HEADER_BYTES]
    ephemeral = header[1:]
    try:
        shared = X25519PrivateKey.from_private_bytes(key.private).exchange(X25519PublicKey.from_public_bytes(ephemeral))
        derived = _derive(shared, ephemeral, key.public, context)
        return AESGCM(derived).decrypt(_NONCE, box[HEADER_BYTES:], header)
    except (InvalidTag, ValueError) as error:
        raise Corrupt("security.box_damaged", "the sealed box is damaged or was sealed for another key") from error


def _derive(shared: bytes, ephemeral: bytes, recipient: bytes, context: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=ephemeral + recipient, info=_LABEL + context).derive(
        shared
    )
