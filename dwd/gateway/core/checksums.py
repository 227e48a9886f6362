"""The digests S3 clients send along with bytes: how to compute, name and compare them.

Source: AWS "Checking object integrity in Amazon S3". CRCs are big-endian before base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import google_crc32c

from dwd.base.errors import InvalidArgument
from dwd.gateway.core import crc64
from dwd.objects.ports import Checksum, ChecksumKind
from dwd.runtime.files import Buffer

DIGEST_BYTES = {
    ChecksumKind.CRC32: 4,
    ChecksumKind.CRC32C: 4,
    ChecksumKind.CRC64NVME: 8,
    ChecksumKind.SHA1: 20,
    ChecksumKind.SHA256: 32,
}
HEADER_OF = {kind: f"x-amz-checksum-{kind.value.lower()}" for kind in ChecksumKind}
KIND_OF_HEADER = {header: kind for kind, header in HEADER_OF.items()}
FULL_OBJECT_ONLY = frozenset({ChecksumKind.CRC64NVME})
COMPOSITE_ONLY = frozenset({ChecksumKind.SHA1, ChecksumKind.SHA256})
_COPY_BYTES = 64 * 1024


class Hasher(Protocol):
    """Anything that takes bytes and yields a digest; hashlib's objects are some."""

    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    __slots__ = ("_size", "_step", "_value")

    def __init__(self, step: Callable[[int, Buffer], int], size: int) -> None:
        self._step = step
        self._size = size
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._step(self._value, data)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def _step_crc32(value: int, data: Buffer) -> int:
    return zlib.crc32(data, value)


def _step_crc32c(value: int, data: Buffer) -> int:
    # The extension takes nothing but bytes; pieces that stay in the cache make the copy nearly free.
    if isinstance(data, bytes):
        return int(google_crc32c.extend(value, data))
    view = memoryview(data)
    for at in range(0, len(view), _COPY_BYTES):
        value = int(google_crc32c.extend(value, bytes(view[at : at + _COPY_BYTES])))
    return value


def new_hasher(kind: ChecksumKind) -> Hasher:
    match kind:
        case ChecksumKind.CRC32:
            return _Crc(_step_crc32, 4)
        case ChecksumKind.CRC32C:
            return _Crc(_step_crc32c, 4)
        case ChecksumKind.CRC64NVME:
            return _Crc(crc64.update, 8)
        case ChecksumKind.SHA1:
            return hashlib.sha1(usedforsecurity=False)
        case ChecksumKind.SHA256:
            return hashlib.sha256()


def encode_digest(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def decode_digest(text: str, size: int) -> bytes | None:
    """The digest of `size` bytes, or None when `text` is not the base64 of one."""
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == size else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a request says of its body's digests."""

    md5: bytes | None = None
    kind: ChecksumKind | None = None
    digest: bytes | None = None
    """None while it is still to come in a trailer, or with `kind` None."""

    @property
    def trailer(self) -> str:
        """The trailer the digest comes in; empty when it does not."""
        return HEADER_OF[self.kind] if self.kind is not None and self.digest is None else ""


def read_declared(headers: Mapping[str, str], *, own_checksum: bool = True) -> Declared:
    """Content-MD5 alone where x-amz-checksum-* is not of the body (`own_checksum`).

    Raises InvalidArgument s3.invalid_digest, s3.invalid_request.
    """
    md5: bytes | None = None
    text = headers.get("content-md5")
    if text is not None:
        md5 = decode_digest(text.strip(), 16)
        if md5 is None:
            raise InvalidArgument("s3.invalid_digest", "The Content-MD5 you specified is not valid.")
    if not own_checksum:
        return Declared(md5=md5)
    kind, digest = _declared_checksum(headers)
    named = headers.get("x-amz-sdk-checksum-algorithm")
    if named is not None:
        wanted = parse_kind(named, "x-amz-sdk-checksum-algorithm")
        if kind is None and headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            raise InvalidArgument(
                "s3.invalid_request",
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
                "headers were found.",
            )
        if kind is not None and kind is not wanted:
            raise InvalidArgument(
                "s3.invalid_request", f"Value for x-amz-sdk-checksum-algorithm header is invalid: {named[:32]}"
            )
    return Declared(md5=md5, kind=kind, digest=digest)


def _declared_checksum(headers: Mapping[str, str]) -> tuple[ChecksumKind | None, bytes | None]:
    found: ChecksumKind | None = None
    digest: bytes | None = None
    for name, kind in KIND_OF_HEADER.items():
        text = headers.get(name)
        if text is None:
            continue
        if found is not None:
            raise InvalidArgument("s3.invalid_request", "Expecting a single x-amz-checksum- header")
        found, digest = kind, decode_digest(text.strip(), DIGEST_BYTES[kind])
        if digest is None:
            raise InvalidArgument("s3.invalid_request", f"Value for {name} header is invalid.")
    trailer = headers.get("x-amz-trailer", "").strip().lower()
    if trailer:
        if found is not None or trailer not in KIND_OF_HEADER:
            raise InvalidArgument(
                "s3.invalid_request", "The value specified in the x-amz-trailer header is not supported"
            )
        found = KIND_OF_HEADER[trailer]
    return found, digest


def parse_kind(text: str, field: str) -> ChecksumKind:
    try:
        return ChecksumKind(text.strip().upper())
    except ValueError:
        raise InvalidArgument(
            "s3.invalid_request", f"Checksum algorithm provided is unsupported in {field}: {text[:32]}"
        ) from None


def checksum_headers(checksum: Checksum) -> dict[str, str]:
    """The headers that tell a client of a stored checksum."""
    return {
        HEADER_OF[checksum.kind]: checksum.value,
        "x-amz-checksum-type": "COMPOSITE" if checksum.composite else "FULL_OBJECT",
    }
