"""The keys below the cluster's: of buckets, named keys, customers' keys, data keys of objects, streams.

    cluster keyring > bucket key > inline bytes
    cluster keyring > bucket key, or named key; or a customer's key, never stored
                      > data key of an object > stream key of the object, or of each of its parts

    sealing: [1 format = 1][1 scheme][1 packing of inline bytes][1 length][name of the named key][box of the data key]

Boxes are those of keyring.py. A data key is 32 random bytes drawn for one object or upload; its box is bound to the
bucket and key that own it, so a copy inside the bucket wraps it anew and shares the blocks. The stream key is
HMAC-SHA256(data key, label || salt), with 16 random bytes of salt for each part and none for an object put whole.

Invariants: nothing here shows a key: not in repr, not in errors. A bucket's key dies with the bucket.
Source: RFC 2104, RFC 5869; the hierarchy is that of SSE-S3 with S3 bucket keys.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dwd.base.errors import Corrupt, VersionRefused
from dwd.security.keyring import KEY_BYTES, Keyring

FORMAT = 1
STREAM_SALT_BYTES = 16
BUCKET_PURPOSE = "bucket keys"
NAMED_PURPOSE = "named keys"
"""Purposes of the cluster keyring."""
INLINE_PURPOSE = "inline objects"
WRAP_PURPOSE = "data keys"
"""Purposes of a bucket's, a named or a customer's key."""

_HEAD_BYTES = 4
_STREAM_LABEL = b"dwd stream 1\0"


class Scheme(IntEnum):
    """Who holds the key that wraps an object's data key."""

    NONE = 0
    BUCKET = 1
    NAMED = 2
    CUSTOMER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """What an object's row says of how its bytes are sealed. `box`, empty for inline bytes under the bucket's key,
    holds the data key.
    """

    scheme: Scheme = Scheme.NONE
    inline_packing: int = 0
    name: str = ""
    box: bytes = field(default=b"", repr=False)


UNSEALED = Sealing()


def encode_sealing(sealing: Sealing) -> bytes:
    """b"" for what is not sealed."""
    if sealing == UNSEALED:
        return b""
    name = sealing.name.encode()
    return bytes([FORMAT, sealing.scheme, sealing.inline_packing, len(name)]) + name + sealing.box


def decode_sealing(encoded: bytes) -> Sealing:
    """Raises VersionRefused (a later format or scheme), Corrupt."""
    if not encoded:
        return UNSEALED
    if encoded[0] != FORMAT:
        raise VersionRefused("security.sealing_format", f"an object sealed in unknown format {encoded[0]}")
    if len(encoded) < _HEAD_BYTES or len(encoded) < _HEAD_BYTES + encoded[3]:
        raise Corrupt("security.sealing_damaged", "what says how an object is sealed was cut")
    if encoded[1] not in set(Scheme):
        raise VersionRefused("security.sealing_scheme", f"an object sealed in unknown scheme {encoded[1]}")
    ends = _HEAD_BYTES + encoded[3]
    return Sealing(
        scheme=Scheme(encoded[1]),
        inline_packing=encoded[2],
        name=encoded[_HEAD_BYTES:ends].decode(errors="replace"),
        box=encoded[ends:],
    )


class WrappingKey:
    """A bucket's key, a named one or a customer's, opened: wraps data keys, and a bucket's seals inline bytes too."""

    def __init__(self, key: bytes) -> None:
        ring = Keyring({1: key}, active=1)
        self._wrap = ring.for_purpose(WRAP_PURPOSE)
        self.inline = ring.for_purpose(INLINE_PURPOSE)

    def wrap(self, data_key: bytes, owner: bytes) -> bytes:
        return self._wrap.seal(data_key, context=owner)

    def unwrap(self, box: bytes, owner: bytes) -> bytes:
        """Raises Corrupt: damaged, of another owner, or wrapped by another key."""
        return self._wrap.open(box, context=owner)


def new_key() -> bytes:
    return os.urandom(KEY_BYTES)


def new_stream_salt() -> bytes:
    return os.urandom(STREAM_SALT_BYTES)


def stream_cipher(data_key: bytes, salt: bytes) -> AESGCM:
    """What seals the records of an object, or of one part of it."""
    return AESGCM(hmac.digest(data_key, _STREAM_LABEL + salt, "sha256"))


def new_named_key(ring: Keyring, name: str) -> bytes:
    """A fresh key in its box. `ring` is the cluster's."""
    return ring.for_purpose(NAMED_PURPOSE).seal(new_key(), context=name.encode())


class OpenedKeys:
    """Keys of buckets, or named ones, as this node has opened them: kept while their boxes stay the same."""

    def __init__(self, ring: Keyring, *, purpose: str, kept_max: int = 10_000) -> None:
        """`ring` is the cluster's."""
        self._ring = ring.for_purpose(purpose)
        self._kept_max = kept_max
        self._opened: dict[str, tuple[bytes, WrappingKey]] = {}

    def seal(self, name: str, key: bytes) -> bytes:
        """A box of the key for its row."""
        return self._ring.seal(key, context=name.encode())

    def open(self, name: str, box: bytes) -> WrappingKey:
        """Raises Corrupt, VersionRefused security.key_missing while this node has not got the newest keyring."""
        known = self._opened.get(name)
        if known is not None and known[0] == box:
            return known[1]
        opened = WrappingKey(self._ring.open(box, context=name.encode()))
        if len(self._opened) >= self._kept_max:
            self._opened.clear()
        self._opened[name] = (box, opened)
        return opened
