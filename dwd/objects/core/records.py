"""Sealed blocks: AES-256-GCM in records of 64 KiB, so that a range opens only its records.

    stream: record*              of so many bytes each but the last: 64 KiB of ciphertext, 16 of tag
    nonce:  [8 position][4 record]                                                               big-endian
    bound:  [1 format = 1][1 packing][8 position][4 block's plain bytes][4 block's bytes before sealing]

`position` is where the block begins in what was written as one (an object, or a part), which has a key of its own:
no two records of a key have the same nonce, and a record opens only in its block, at its place, in a block of that
length. So records that were swapped, moved, left out or cut off are refused.

Invariant: a block is sealed once. What is written again (a retry, a repair) is what was sealed; an upload that begins
anew draws a new key.
Source: NIST SP 800-38D, 8.2.1 (deterministic nonces); STREAM (Hoang, Reyhanitabar, Rogaway, Vizar 2015) for what is
bound; 5 TiB under one key stay 2^-51 below the birthday bound of its counter blocks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dwd.base.errors import Corrupt
from dwd.base.units import KIB
from dwd.runtime.files import Buffer

FORMAT = 1
RECORD_BYTES = 64 * KIB
TAG_BYTES = 16
SEALED_BYTES = RECORD_BYTES + TAG_BYTES

_NONCE = struct.Struct(">QI")
_BOUND = struct.Struct(">BBQII")


def sealed_length(length: int) -> int:
    """How long so many bytes are once they are sealed."""
    return length + record_count(length) * TAG_BYTES


def record_count(length: int) -> int:
    return -(-length // RECORD_BYTES)


def unsealed_length(length: int) -> int:
    """The inverse of `sealed_length`. Raises Corrupt for a length that no sealed block has."""
    plain = length - -(-length // SEALED_BYTES) * TAG_BYTES
    if plain <= 0 or sealed_length(plain) != length:
        raise Corrupt("objects.record_damaged", f"a sealed block of {length} bytes was cut")
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSeal:
    """The key of what was written as one, and the facts of one block of it. `length` is of the bytes before sealing."""

    cipher: AESGCM
    packing: int
    position: int
    plain_length: int
    length: int

    def seal(self, pieces: list[Buffer]) -> bytearray:
        """All records of the block, whose bytes are `pieces` one after another."""
        data = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        sealed = bytearray(sealed_length(len(data)))
        out, bound = memoryview(sealed), self._bound()
        for record, start in enumerate(range(0, len(data), RECORD_BYTES)):
            plain = data[start : start + RECORD_BYTES]
            at = record * SEALED_BYTES
            self.cipher.encrypt_into(self._nonce(record), plain, bound, out[at : at + len(plain) + TAG_BYTES])
        return sealed

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Bytes [first, last) of the sealed block that hold the records of [start, end), which is not empty."""
        first, last = start // RECORD_BYTES * SEALED_BYTES, record_count(end) * SEALED_BYTES
        return first, min(last, sealed_length(self.length))

    def open(self, sealed: Buffer, start: int, end: int) -> memoryview:
        """The bytes [start, end) from the records that `span` names. Raises Corrupt."""
        first = start // RECORD_BYTES
        base = first * RECORD_BYTES
        whole = min(record_count(end) * RECORD_BYTES, self.length)
        view, plain = memoryview(sealed), bytearray(whole - base)
        if len(view) != sealed_length(whole) - sealed_length(base):
            raise Corrupt("objects.record_damaged", "the records of a block are not as long as they must be")
        out, bound = memoryview(plain), self._bound()
        for number, at in enumerate(range(0, len(view), SEALED_BYTES)):
            record = view[at : at + SEALED_BYTES]
            into = number * RECORD_BYTES
            try:
                self.cipher.decrypt_into(
                    self._nonce(first + number), record, bound, out[into : into + len(record) - TAG_BYTES]
                )
            except InvalidTag as error:
                raise Corrupt(
                    "objects.record_damaged", "a record is damaged, or belongs to another place or key"
                ) from error
        return out[start - base : end - base]

    def _nonce(self, record: int) -> bytes:
        return _NONCE.pack(self.position, record)

    def _bound(self) -> bytes:
        return _BOUND.pack(FORMAT, self.packing, self.position, self.plain_length, self.length)
