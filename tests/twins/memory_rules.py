"""The rules MemoryObjects goes by: ranges, preconditions, grouping of keys, digests of multipart objects."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dwd.base.errors import Conflict, InvalidArgument, NotFound, PermissionDenied
from dwd.gateway.core.checksums import COMPOSITE_ONLY, encode_digest, new_hasher
from dwd.objects.core.ranges import ByteRange, RangeRequest
from dwd.objects.encryption import Encryption
from dwd.objects.ports import BucketInfo, Checksum, ChecksumKind, ObjectInfo, PartInfo, Precondition, UploadInfo
from dwd.runtime.files import Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    info: ObjectInfo
    data: bytes
    part_ends: tuple[int, ...] = ()
    customer_key: bytes = b""


class HasKey(Protocol):
    @property
    def customer_key(self) -> bytes: ...


def shown(wanted: Encryption | None, bucket: BucketInfo) -> Encryption:
    """What is told of an object: never the customer's key."""
    return bucket.encryption if wanted is None else replace(wanted, customer_key=b"")


def key_of(wanted: Encryption | None) -> bytes:
    return b"" if wanted is None else wanted.customer_key


def check_key(stored: HasKey, customer_key: bytes) -> None:
    if stored.customer_key and not customer_key:
        raise InvalidArgument("objects.customer_key_needed", "The object was stored with a key of a customer.")
    if customer_key and not stored.customer_key:
        raise InvalidArgument("objects.customer_key_not_used", "The parameters are not applicable to this object.")
    if customer_key != stored.customer_key:
        raise PermissionDenied("objects.customer_key_wrong", "Access Denied")


READ_BYTES = 1024 * 1024


class MemoryReader:
    def __init__(self, stored: StoredObject, span: ByteRange) -> None:
        self._stored = stored
        self._range = span

    @property
    def info(self) -> ObjectInfo:
        return self._stored.info

    @property
    def range(self) -> ByteRange:
        return self._range

    async def chunks(self) -> AsyncGenerator[Buffer, None]:
        view = memoryview(self._stored.data)
        for at in range(self._range.start, self._range.end, READ_BYTES):
            yield view[at : min(at + READ_BYTES, self._range.end)]


def resolve(wanted: RangeRequest | None, size: int) -> ByteRange:
    """The span of a range in an object of `size` bytes. Raises InvalidArgument objects.range_not_satisfiable."""
    if wanted is None:
        return ByteRange(start=0, end=size)
    if wanted.suffix is not None:
        start, end = max(size - wanted.suffix, 0), size
    else:
        start = wanted.first or 0
        end = size if wanted.last is None else min(wanted.last + 1, size)
    if start >= end:
        raise InvalidArgument("objects.range_not_satisfiable", "The requested range is not satisfiable", size=size)
    return ByteRange(start=start, end=end)


def part_span(stored: StoredObject, number: int) -> ByteRange:
    ends = stored.part_ends or (stored.info.size,)
    if number > len(ends):
        raise InvalidArgument("objects.no_such_part", "The requested partnumber is not satisfiable")
    return ByteRange(start=ends[number - 2] if number > 1 else 0, end=ends[number - 1])


def judge(wanted: Precondition, stored: StoredObject | None) -> None:
    if wanted.if_match:
        if stored is None:
            raise NotFound("objects.no_such_key", "The specified key does not exist.")
        if "*" not in wanted.if_match and stored.info.etag not in wanted.if_match:
            raise precondition_failed()
    if (
        wanted.if_none_match
        and stored is not None
        and ("*" in wanted.if_none_match or stored.info.etag in wanted.if_none_match)
    ):
        raise precondition_failed()


def precondition_failed() -> Conflict:
    return Conflict("objects.precondition_failed", "At least one of the pre-conditions you specified did not hold")


def grouped(stored: Iterable[str], prefix: str, delimiter: str, after: str) -> Iterator[tuple[str, bool]]:
    """(name, is a common prefix) in UTF-8 order."""
    last = ""
    bound = after.encode()
    order: Callable[[str], bytes] = str.encode
    for key in sorted(stored, key=order):
        if not key.startswith(prefix):
            continue
        common = common_prefix(key, prefix, delimiter)
        name = common or key
        if name.encode() <= bound or (common and common == last):
            continue
        last = common
        yield name, bool(common)


def common_prefix(key: str, prefix: str, delimiter: str) -> str:
    if not delimiter:
        return ""
    at = key.find(delimiter, len(prefix))
    return "" if at < 0 else key[: at + len(delimiter)]


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def checksum(kind: ChecksumKind, data: bytes) -> Checksum:
    hasher = new_hasher(kind)
    hasher.update(data)
    return Checksum(kind=kind, value=encode_digest(hasher.digest()))


def full(checksum: Checksum | None) -> Checksum | None:
    return None if checksum is None or checksum.composite else checksum


def upload_checksum(info: UploadInfo, chosen: Sequence[tuple[PartInfo, bytes]], data: bytes) -> Checksum | None:
    kind = info.checksum_kind
    if kind is None:
        return None
    if not info.checksum_composite and kind not in COMPOSITE_ONLY:
        return checksum(kind, data)
    digests = b"".join(b64decode(part.checksum.value) for part, _ in chosen if part.checksum is not None)
    composite = checksum(kind, digests)
    return replace(composite, value=f"{composite.value}-{len(chosen)}", composite=True)
