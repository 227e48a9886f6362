"""The object API in memory: what the gateway is tested against, and what the real one must agree with.

Everything is held in dictionaries of one event loop; no method awaits between reading and changing them, so each is
atomic. Times come from the clock given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from dwd.base.clock import Clock
from dwd.base.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, PermissionDenied
from dwd.base.policy import Policy
from dwd.objects.core.ranges import RangeRequest
from dwd.objects.encryption import NOT_ENCRYPTED, Encryption
from dwd.objects.ports import (
    ANY_POLICY,
    Body,
    BucketInfo,
    Caller,
    Checksum,
    ChecksumKind,
    CompletedPart,
    CopySource,
    ListPage,
    ListRequest,
    ObjectHeaders,
    ObjectInfo,
    PartInfo,
    PartPage,
    Precondition,
    UploadInfo,
    UploadPage,
)
from tests.twins.memory_rules import (
    MemoryReader,
    StoredObject,
    check_key,
    common_prefix,
    full,
    grouped,
    judge,
    key_of,
    md5,
    part_span,
    precondition_failed,
    resolve,
    shown,
    upload_checksum,
)
from tests.twins.memory_rules import (
    checksum as checksum_of,
)

ANY = Precondition()
PART_BYTES_MIN = 5 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class StoredUpload:
    info: UploadInfo
    headers: ObjectHeaders
    customer_key: bytes = b""
    parts: dict[int, tuple[PartInfo, bytes]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class StoredBucket:
    info: BucketInfo
    objects: dict[str, StoredObject] = field(default_factory=dict)
    uploads: dict[str, StoredUpload] = field(default_factory=dict)


class MemoryObjects:
    """Objects in memory."""

    def __init__(self, clock: Clock, *, part_bytes_min: int = PART_BYTES_MIN) -> None:
        self._clock = clock
        self._part_bytes_min = part_bytes_min
        self._buckets: dict[str, StoredBucket] = {}
        self._uploads_made = 0

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
        found = self._buckets.get(bucket)
        if found is not None:
            if found.info.owner == caller.user:
                raise AlreadyExists("objects.bucket_owned_by_you", "the bucket is yours already")
            raise AlreadyExists("objects.bucket_exists", "the bucket name is taken")
        info = BucketInfo(
            name=bucket,
            owner=caller.user,
            policy=policy,
            created_unix_ms=self._clock.unix_ms(),
            compression=compression or 0,
            encryption=encryption or NOT_ENCRYPTED,
        )
        self._buckets[bucket] = StoredBucket(info=info)
        return info

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
        found = self._bucket(caller, bucket)
        chosen = NOT_ENCRYPTED if to_default else encryption
        found.info = replace(
            found.info,
            compression=found.info.compression if compression is None else compression,
            encryption=found.info.encryption if chosen is None else chosen,
        )
        return found.info

    async def delete_bucket(self, caller: Caller, bucket: str, *, deadline: float) -> None:
        found = self._bucket(caller, bucket)
        if found.objects or found.uploads:
            raise Conflict("objects.bucket_not_empty", "the bucket is not empty")
        del self._buckets[bucket]

    async def bucket(self, caller: Caller, bucket: str, *, deadline: float) -> BucketInfo:
        return self._bucket(caller, bucket).info

    async def buckets(self, caller: Caller, *, deadline: float) -> tuple[BucketInfo, ...]:
        return tuple(
            one.info for name, one in sorted(self._buckets.items()) if caller.admin or one.info.owner == caller.user
        )

    async def put(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        body: Body,
        *,
        headers: ObjectHeaders,
        precondition: Precondition = ANY,
        encryption: Encryption | None = None,
        deadline: float,
    ) -> ObjectInfo:
        found = self._bucket(caller, bucket)
        data = b"".join([bytes(chunk) async for chunk in body.chunks()])
        judge(precondition, found.objects.get(key))
        info = ObjectInfo(
            bucket=bucket,
            key=key,
            size=len(data),
            etag=md5(data),
            modified_unix_ms=self._clock.unix_ms(),
            headers=headers,
            checksum=body.checksum(),
            part_count=0,
            encryption=shown(encryption, found.info),
        )
        found.objects[key] = StoredObject(info=info, data=data, customer_key=key_of(encryption))
        return info

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
    ) -> MemoryReader:
        stored = self._object(caller, bucket, key)
        check_key(stored, customer_key)
        if part_number is not None:
            return MemoryReader(stored, part_span(stored, part_number))
        return MemoryReader(stored, resolve(wanted, stored.info.size))

    async def head(
        self, caller: Caller, bucket: str, key: str, *, customer_key: bytes = b"", deadline: float
    ) -> ObjectInfo:
        stored = self._object(caller, bucket, key)
        check_key(stored, customer_key)
        return stored.info

    async def delete(
        self, caller: Caller, bucket: str, key: str, *, precondition: Precondition = ANY, deadline: float
    ) -> bool:
        objects = self._bucket(caller, bucket).objects
        judge(precondition, objects.get(key))
        return objects.pop(key, None) is not None

    async def copy(
        self,
        caller: Caller,
        source: CopySource,
        bucket: str,
        key: str,
        *,
        headers: ObjectHeaders | None,
        checksum: ChecksumKind | None = None,
        precondition: Precondition = ANY,
        encryption: Encryption | None = None,
        deadline: float,
    ) -> ObjectInfo:
        target = self._bucket(caller, bucket)
        stored = self._source(caller, source)
        judge(precondition, target.objects.get(key))
        info = ObjectInfo(
            bucket=bucket,
            key=key,
            size=stored.info.size,
            etag=md5(stored.data),
            modified_unix_ms=self._clock.unix_ms(),
            headers=stored.info.headers if headers is None else headers,
            checksum=checksum_of(checksum, stored.data) if checksum is not None else full(stored.info.checksum),
            part_count=0,
            encryption=shown(encryption, target.info),
        )
        target.objects[key] = StoredObject(info=info, data=stored.data, customer_key=key_of(encryption))
        return info

    async def list(self, caller: Caller, request: ListRequest, *, deadline: float) -> ListPage:
        stored = self._bucket(caller, request.bucket).objects
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []
        after = request.after
        for key, common in grouped(stored, request.prefix, request.delimiter, request.after):
            if len(objects) + len(prefixes) == request.limit:
                return ListPage(objects=tuple(objects), prefixes=tuple(prefixes), truncated=True, next_after=after)
            if common:
                prefixes.append(key)
            else:
                objects.append(stored[key].info)
            after = key
        return ListPage(objects=tuple(objects), prefixes=tuple(prefixes), truncated=False, next_after="")

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
    ) -> UploadInfo:
        found = self._bucket(caller, bucket)
        self._uploads_made += 1
        info = UploadInfo(
            upload_id=f"upload-{self._uploads_made:08}",
            bucket=bucket,
            key=key,
            initiated_unix_ms=self._clock.unix_ms(),
            checksum_kind=checksum_kind,
            checksum_composite=checksum_composite,
            encryption=shown(encryption, found.info),
        )
        found.uploads[info.upload_id] = StoredUpload(info=info, headers=headers, customer_key=key_of(encryption))
        return info

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
        check_key(self._upload(caller, bucket, key, upload_id), customer_key)
        data = b"".join([bytes(chunk) async for chunk in body.chunks()])
        return self._keep_part(self._upload(caller, bucket, key, upload_id), number, data, body.checksum())

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
    ) -> PartInfo:
        upload = self._upload(caller, bucket, key, upload_id)
        check_key(upload, customer_key)
        stored = self._source(caller, source)
        span = resolve(wanted, stored.info.size)
        return self._keep_part(upload, number, stored.data[span.start : span.end], None)

    async def complete_upload(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        upload_id: str,
        parts: tuple[CompletedPart, ...],
        *,
        checksum: Checksum | None = None,
        precondition: Precondition = ANY,
        deadline: float,
    ) -> ObjectInfo:
        upload = self._upload(caller, bucket, key, upload_id)
        found = self._buckets[bucket]
        chosen = self._chosen(upload, parts)
        judge(precondition, found.objects.get(key))
        data = b"".join(bytes_of for _, bytes_of in chosen)
        ends: list[int] = []
        for part, _ in chosen:
            ends.append((ends[-1] if ends else 0) + part.size)
        computed = upload_checksum(upload.info, chosen, data)
        if checksum is not None and computed is not None and computed != checksum:
            raise InvalidArgument("s3.bad_digest", "the checksum of the whole object does not match")
        digests = b"".join(bytes.fromhex(part.etag) for part, _ in chosen)
        info = ObjectInfo(
            bucket=bucket,
            key=key,
            size=len(data),
            etag=f"{md5(digests)}-{len(chosen)}",
            modified_unix_ms=self._clock.unix_ms(),
            headers=upload.headers,
            checksum=computed,
            part_count=len(chosen),
            encryption=upload.info.encryption,
        )
        found.objects[key] = StoredObject(info=info, data=data, part_ends=tuple(ends), customer_key=upload.customer_key)
        del found.uploads[upload_id]
        return info

    async def abort_upload(self, caller: Caller, bucket: str, key: str, upload_id: str, *, deadline: float) -> None:
        self._upload(caller, bucket, key, upload_id)
        del self._buckets[bucket].uploads[upload_id]

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
    ) -> PartPage:
        upload = self._upload(caller, bucket, key, upload_id)
        parts = [part for number, (part, _) in sorted(upload.parts.items()) if number > after]
        return PartPage(upload=upload.info, parts=tuple(parts[:limit]), truncated=len(parts) > limit)

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
    ) -> UploadPage:
        stored = self._bucket(caller, bucket).uploads.values()
        uploads = sorted((one.info for one in stored), key=lambda one: (one.key.encode(), one.upload_id))
        found: list[UploadInfo] = []
        prefixes: list[str] = []
        for one in uploads:
            if not one.key.startswith(prefix):
                continue
            common = common_prefix(one.key, prefix, delimiter)
            position = common or one.key
            if position.encode() < after_key.encode():
                continue
            if position == after_key and (common or not after_upload or one.upload_id <= after_upload):
                continue
            if common and common in prefixes:
                continue
            if len(found) + len(prefixes) == limit:
                return UploadPage(uploads=tuple(found), prefixes=tuple(prefixes), truncated=True)
            if common:
                prefixes.append(common)
            else:
                found.append(one)
        return UploadPage(uploads=tuple(found), prefixes=tuple(prefixes), truncated=False)

    def _bucket(self, caller: Caller, bucket: str) -> StoredBucket:
        found = self._buckets.get(bucket)
        if found is None:
            raise NotFound("objects.no_such_bucket", "The specified bucket does not exist", bucket=bucket)
        if not caller.admin and found.info.owner != caller.user:
            raise PermissionDenied("objects.not_owner", "the bucket belongs to another user")
        return found

    def _object(self, caller: Caller, bucket: str, key: str) -> StoredObject:
        stored = self._bucket(caller, bucket).objects.get(key)
        if stored is None:
            raise NotFound("objects.no_such_key", "The specified key does not exist.", key=key)
        return stored

    def _upload(self, caller: Caller, bucket: str, key: str, upload_id: str) -> StoredUpload:
        upload = self._bucket(caller, bucket).uploads.get(upload_id)
        if upload is None or upload.info.key != key:
            raise NotFound("objects.no_such_upload", "The specified upload does not exist.")
        return upload

    def _source(self, caller: Caller, source: CopySource) -> StoredObject:
        stored = self._object(caller, source.bucket, source.key)
        check_key(stored, source.customer_key)
        wanted, seconds = source.precondition, stored.info.modified_unix_ms // 1_000
        since, until = source.modified_since_unix_ms, source.unmodified_since_unix_ms
        if wanted.if_match:
            judge(Precondition(if_match=wanted.if_match), stored)
        elif until is not None and seconds > until // 1_000:
            raise precondition_failed()
        if wanted.if_none_match:
            judge(Precondition(if_none_match=wanted.if_none_match), stored)
        elif since is not None and seconds <= since // 1_000:
            raise precondition_failed()
        return stored

    def _keep_part(self, upload: StoredUpload, number: int, data: bytes, checksum: Checksum | None) -> PartInfo:
        kind = upload.info.checksum_kind
        if kind is not None and checksum is None:
            checksum = checksum_of(kind, data)
        part = PartInfo(
            number=number,
            size=len(data),
            etag=md5(data),
            modified_unix_ms=self._clock.unix_ms(),
            checksum=checksum,
            encryption=upload.info.encryption,
        )
        upload.parts[number] = (part, data)
        return part

    def _chosen(self, upload: StoredUpload, parts: tuple[CompletedPart, ...]) -> Sequence[tuple[PartInfo, bytes]]:
        if any(left.number >= right.number for left, right in pairwise(parts)):
            raise InvalidArgument("objects.invalid_part_order", "The list of parts was not in ascending order.")
        chosen = []
        for one in parts:
            part = upload.parts.get(one.number)
            if part is None or part[0].etag != one.etag:
                raise InvalidArgument("objects.invalid_part", "One or more of the parts could not be found.")
            if one.checksum is not None and one.checksum != part[0].checksum:
                raise InvalidArgument("objects.invalid_part", "One or more of the parts could not be found.")
            chosen.append(part)
        if any(part.size < self._part_bytes_min for part, _ in chosen[:-1]):
            raise InvalidArgument("objects.part_too_small", "Your proposed upload is smaller than the minimum allowed")
        return chosen
