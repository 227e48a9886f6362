"""What gateways know of objects: typed requests and answers, no HTTP.

`deadline` is in seconds of the monotonic clock everywhere. Keys are str whose UTF-8 form is at most 1,024 bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from dwd.base.policy import Policy
from dwd.objects.core.ranges import ByteRange, RangeRequest
from dwd.objects.encryption import NOT_ENCRYPTED, Encryption
from dwd.runtime.files import Buffer

ANY_POLICY = Policy(profile="")
"""Of a bucket whose maker says nothing: the cluster's."""
STEP_SECONDS = 30.0
"""The longest that one step of a download may take: whoever reads a large object slowly is not cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated user of the object API."""

    user: str
    access_key: str
    admin: bool
    """May act on every bucket; others act on the buckets they own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """Judged inside the state machine, so it is atomic. Etags without quotes; "*" = any."""

    if_match: tuple[str, ...] = ()
    if_none_match: tuple[str, ...] = ()


class ChecksumKind(Enum):
    CRC32 = "CRC32"
    CRC32C = "CRC32C"
    CRC64NVME = "CRC64NVME"
    SHA1 = "SHA1"
    SHA256 = "SHA256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """`value` is base64 as S3 shows it; `composite` for multipart "-N" checksums."""

    kind: ChecksumKind
    value: str
    composite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHeaders:
    """What the client said about an object besides its bytes."""

    content_type: str = "application/octet-stream"
    system: Mapping[str, str] = field(default_factory=dict)
    """cache-control, content-disposition, content-encoding, content-language, expires: lower-case names."""
    user: Mapping[str, str] = field(default_factory=dict)
    """x-amz-meta-* without the prefix, lower-case names; at most 2 KiB in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketInfo:
    name: str
    owner: str
    policy: Policy
    created_unix_ms: int
    compression: int = 0
    """A zstd level; 0: objects are not compressed."""
    encryption: Encryption = NOT_ENCRYPTED
    """Of objects whose request says nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    bucket: str
    key: str
    size: int
    etag: str
    modified_unix_ms: int
    headers: ObjectHeaders
    """Left at their defaults in listings."""
    checksum: Checksum | None
    part_count: int
    """0 unless made by multipart."""
    encryption: Encryption = NOT_ENCRYPTED


class Body(Protocol):
    """Bytes of an upload as they arrive; the gateway verifies transport checksums while they pass."""

    @property
    def length(self) -> int | None:
        """Bytes that will come, where the client said so."""
        ...

    def chunks(self) -> AsyncGenerator[Buffer, None]:
        """A buffer that was yielded is the consumer's: it is never changed or used again. Raises InvalidArgument at the
        end when length, signature or declared checksum does not hold: then the put must fail and leave nothing behind.
        To be closed by whoever stops early: it may hold what others wait for.
        """
        ...

    def checksum(self) -> Checksum | None:
        """The verified checksum to keep with the object; known once `chunks` is exhausted."""
        ...


class ObjectReader(Protocol):
    """An opened object: its facts and its verified bytes."""

    @property
    def info(self) -> ObjectInfo: ...

    @property
    def range(self) -> ByteRange:
        """What `chunks` yields; the whole object unless a range was asked for."""
        ...

    def chunks(self) -> AsyncGenerator[Buffer, None]:
        """To be closed by whoever stops early. However long the reader takes to ask, each next piece comes in
        STEP_SECONDS or not at all. Raises Corrupt, Unavailable, DeadlineExceeded.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    bucket: str
    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    """Only keys (and common prefixes) greater than this."""
    limit: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """Objects and common prefixes, each in UTF-8 byte order. `next_after` is the greatest of both when truncated."""

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    truncated: bool
    next_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadInfo:
    upload_id: str
    bucket: str
    key: str
    initiated_unix_ms: int
    checksum_kind: ChecksumKind | None = None
    checksum_composite: bool = True
    encryption: Encryption = NOT_ENCRYPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class PartInfo:
    number: int
    size: int
    etag: str
    modified_unix_ms: int
    checksum: Checksum | None
    encryption: Encryption = NOT_ENCRYPTED
    """Of the upload; left at its default in listings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedPart:
    number: int
    etag: str
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPage:
    uploads: tuple[UploadInfo, ...]
    prefixes: tuple[str, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPage:
    upload: UploadInfo
    parts: tuple[PartInfo, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    bucket: str
    key: str
    precondition: Precondition = Precondition()
    modified_since_unix_ms: int | None = None
    unmodified_since_unix_ms: int | None = None
    customer_key: bytes = field(default=b"", repr=False)


class Objects(Protocol):
    """The object API of a region. Every method raises Unavailable, Busy, DeadlineExceeded or OutcomeUnknown besides
    what it names; NotFound codes: objects.no_such_bucket, objects.no_such_key, objects.no_such_upload.
    """

    async def create_bucket(
        self,
        caller: Caller,
        bucket: str,
        *,
        policy: Policy = ANY_POLICY,
        compression: int | None = None,
        encryption: Encryption | None = None,
        deadline: float,
    ) -> BucketInfo:
        """`compression`, `encryption` None: the cluster's default.
        Raises AlreadyExists: objects.bucket_owned_by_you / objects.bucket_exists; InvalidArgument.
        """
        ...

    async def set_bucket_at_rest(
        self,
        caller: Caller,
        bucket: str,
        *,
        compression: int | None = None,
        encryption: Encryption | None = None,
        to_default: bool = False,
        deadline: float,
    ) -> BucketInfo:
        """For objects stored from the answer on. None leaves what it is; `to_default` gives up the bucket's own
        encryption for the cluster's default. Raises InvalidArgument, NotFound objects.no_such_named_key.
        """
        ...

    async def delete_bucket(self, caller: Caller, bucket: str, *, deadline: float) -> None:
        """Raises Conflict objects.bucket_not_empty."""
        ...

    async def bucket(self, caller: Caller, bucket: str, *, deadline: float) -> BucketInfo: ...

    async def buckets(self, caller: Caller, *, deadline: float) -> tuple[BucketInfo, ...]: ...

    async def put(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        body: Body,
        *,
        headers: ObjectHeaders,
        precondition: Precondition = Precondition(),
        encryption: Encryption | None = None,
        deadline: float,
    ) -> ObjectInfo:
        """`encryption` None: as the bucket says. Raises Conflict objects.precondition_failed; NotFound
        objects.no_such_named_key.
        """
        ...

    async def open(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        *,
        wanted: RangeRequest | None = None,
        part_number: int | None = None,
        customer_key: bytes = b"",
        deadline: float,
    ) -> ObjectReader:
        """`deadline` is that of opening alone; reading has one for each step (STEP_SECONDS).

        Raises InvalidArgument objects.range_not_satisfiable (field size), objects.no_such_part,
        objects.customer_key_needed, objects.customer_key_not_used; PermissionDenied objects.customer_key_wrong.
        """
        ...

    async def head(
        self, caller: Caller, bucket: str, key: str, *, customer_key: bytes = b"", deadline: float
    ) -> ObjectInfo:
        """Raises as `open` does where the customer's key is wanted."""
        ...

    async def delete(
        self, caller: Caller, bucket: str, key: str, *, precondition: Precondition = Precondition(), deadline: float
    ) -> bool:
        """True if there was one."""
        ...

    async def copy(
        self,
        caller: Caller,
        source: CopySource,
        bucket: str,
        key: str,
        *,
        headers: ObjectHeaders | None,
        checksum: ChecksumKind | None = None,
        precondition: Precondition = Precondition(),
        encryption: Encryption | None = None,
        deadline: float,
    ) -> ObjectInfo:
        """`headers` None keeps those of the source; `encryption` as in `put`. Raises Conflict
        objects.precondition_failed.
        """
        ...

    async def list(self, caller: Caller, request: ListRequest, *, deadline: float) -> ListPage: ...

    async def create_upload(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        *,
        headers: ObjectHeaders,
        checksum_kind: ChecksumKind | None,
        checksum_composite: bool = True,
        encryption: Encryption | None = None,
        deadline: float,
    ) -> UploadInfo: ...

    async def put_part(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        body: Body,
        *,
        customer_key: bytes = b"",
        deadline: float,
    ) -> PartInfo:
        """Raises as `open` does where the customer's key of the upload is wanted."""
        ...

    async def copy_part(
        self,
        caller: Caller,
        source: CopySource,
        wanted: RangeRequest | None,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        *,
        customer_key: bytes = b"",
        deadline: float,
    ) -> PartInfo: ...

    async def complete_upload(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        upload_id: str,
        parts: tuple[CompletedPart, ...],
        *,
        checksum: Checksum | None = None,
        precondition: Precondition = Precondition(),
        deadline: float,
    ) -> ObjectInfo:
        """Raises InvalidArgument objects.invalid_part, objects.invalid_part_order, objects.part_too_small."""
        ...

    async def abort_upload(self, caller: Caller, bucket: str, key: str, upload_id: str, *, deadline: float) -> None: ...

    async def list_parts(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        upload_id: str,
        *,
        after: int = 0,
        limit: int = 1_000,
        deadline: float,
    ) -> PartPage: ...

    async def list_uploads(
        self,
        caller: Caller,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after_key: str = "",
        after_upload: str = "",
        limit: int = 1_000,
        deadline: float,
    ) -> UploadPage: ...
