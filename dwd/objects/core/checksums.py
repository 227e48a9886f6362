"""Checksums of objects: as text in metadata, and of a whole from those of its parts.

Text: "KIND:base64", where a composite one ends in "-N" (N parts), as S3 shows it. A composite checksum is the hash of
the parts' raw checksums one after another. A full-object CRC is combined from the parts' CRCs and lengths.

Source: Amazon S3 User Guide, "Checking object integrity"; CRC combination as in zlib's crc32_combine: appending n bytes
multiplies the CRC by x^(8n) modulo the polynomial, found by squaring matrices over GF(2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence

from dwd.base.errors import InvalidArgument
from dwd.objects.ports import Checksum, ChecksumKind

_POLYNOMIALS: dict[ChecksumKind, tuple[int, int]] = {
    ChecksumKind.CRC32: (32, 0xEDB88320),
    ChecksumKind.CRC32C: (32, 0x82F63B78),
    ChecksumKind.CRC64NVME: (64, 0x9A6C9329AC4BC9B5),
}
"""Width in bits and reflected polynomial."""
_MATRIX_CACHE: dict[tuple[ChecksumKind, int], list[int]] = {}


def checksum_text(checksum: Checksum | None) -> str:
    """As kept in metadata; "" for none."""
    return f"{checksum.kind.value}:{checksum.value}" if checksum is not None else ""


def parse_checksum(text: str) -> Checksum | None:
    """The inverse of `checksum_text`."""
    if not text:
        return None
    kind, _, value = text.partition(":")
    return Checksum(kind=ChecksumKind(kind), value=value, composite="-" in value)


def wanted_text(kind: ChecksumKind | None, *, composite: bool) -> str:
    """What an upload keeps of the checksum its client wants: "", "CRC32:composite" or "CRC32:full"."""
    return "" if kind is None else f"{kind.value}:{'composite' if composite else 'full'}"


def parse_wanted(text: str) -> tuple[ChecksumKind | None, bool]:
    """The inverse of `wanted_text`: (kind, composite)."""
    if not text:
        return None, True
    kind, _, form = text.partition(":")
    return ChecksumKind(kind), form == "composite"


def composite(kind: ChecksumKind, parts: Sequence[str]) -> Checksum:
    """The composite checksum of parts whose checksums are `parts` (base64)."""
    raw = b"".join(_raw(part) for part in parts)
    if kind in _POLYNOMIALS:
        width, polynomial = _POLYNOMIALS[kind]
        digest = _crc(raw, width, polynomial).to_bytes(width // 8)
    else:
        digest = hashlib.new(kind.value.lower(), raw, usedforsecurity=False).digest()
    return Checksum(kind=kind, value=f"{base64.b64encode(digest).decode()}-{len(parts)}", composite=True)


def full_object(kind: ChecksumKind, parts: Sequence[tuple[str, int]]) -> Checksum:
    """The checksum of the whole from (base64 checksum, bytes) of each part. Raises InvalidArgument for kinds that
    cannot be combined (SHA).
    """
    if kind not in _POLYNOMIALS:
        raise InvalidArgument(
            "objects.checksum_not_combinable", f"{kind.value} of a whole object cannot be made from its parts"
        )
    width, _ = _POLYNOMIALS[kind]
    total = 0
    for position, (text, length) in enumerate(parts):
        value = int.from_bytes(_raw(text))
        total = value if position == 0 else _shift(kind, total, length) ^ value
    return Checksum(kind=kind, value=base64.b64encode(total.to_bytes(width // 8)).decode())


def _raw(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidArgument("objects.invalid_part", f"not a base64 checksum: {text[:40]!r}") from error


def _crc(data: bytes, width: int, polynomial: int) -> int:
    """Bitwise CRC of a few dozen bytes; bulk data never comes here."""
    mask = (1 << width) - 1
    value = mask
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
    return value ^ mask


def _shift(kind: ChecksumKind, value: int, length: int) -> int:
    """The CRC `value` after `length` zero bytes, without the final inversions (they cancel out)."""
    power = 0
    while length:
        if length & 1:
            value = _times(_zero_bytes(kind, power), value)
        length >>= 1
        power += 1
    return value


def _zero_bytes(kind: ChecksumKind, power: int) -> list[int]:
    """The matrix that appends 2^power zero bytes; column i is the image of bit i."""
    cached = _MATRIX_CACHE.get((kind, power))
    if cached is not None:
        return cached
    width, polynomial = _POLYNOMIALS[kind]
    if power == 0:
        matrix = [polynomial] + [1 << i for i in range(width - 1)]  # one zero bit
        for _ in range(3):
            matrix = _square(matrix)
    else:
        matrix = _square(_zero_bytes(kind, power - 1))
    _MATRIX_CACHE[kind, power] = matrix
    return matrix


def _square(matrix: list[int]) -> list[int]:
    return [_times(matrix, column) for column in matrix]


def _times(matrix: list[int], vector: int) -> int:
    total, position = 0, 0
    while vector:
        if vector & 1:
            total ^= matrix[position]
        vector >>= 1
        position += 1
    return total
