"""The object API of a region: one thin surface over the verbs, constructed once a node."""

from __future__ import annotations

from dwd.base.policy import Policy
from dwd.objects import buckets, copy, delete, listing, multipart, put, read
from dwd.objects.context import Context
from dwd.objects.core.ranges import RangeRequest
from dwd.objects.encryption import Encryption
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
    ObjectReader,
    PartInfo,
    PartPage,
    Precondition,
    UploadInfo,
    UploadPage,
)

NO_CONDITION = Precondition()


class ObjectService:
    """Implements `dwd.objects.ports.Objects`."""

    def __init__(self, context: Context) -> None:
        self._context = context

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
        return await buckets.create_bucket(
            self._context,
            caller,
            bucket,
            policy=policy,
            compression=compression,
            encryption=encryption,
            deadline=deadline,
        )

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
        return await buckets.set_bucket_at_rest(
            self._context,
            caller,
            bucket,
            compression=compression,
            encryption=encryption,
            to_default=to_default,
            deadline=deadline,
        )

    async def delete_bucket(self, caller: Caller, bucket: str, *, deadline: float) -> None:
        await buckets.delete_bucket(self._context, caller, bucket, deadline=deadline)

    async def bucket(self, caller: Caller, bucket: str, *, deadline: float) -> BucketInfo:
        return await buckets.bucket(self._context, caller, bucket, deadline=deadline)

    async def buckets(self, caller: Caller, *, deadline: float) -> tuple[BucketInfo, ...]:
        return await buckets.buckets(self._context, caller, deadline=deadline)

    async def put(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        body: Body,
        *,
        headers: ObjectHeaders,
        precondition: Precondition = NO_CONDITION,
        encryption: Encryption | None = None,
        deadline: float,
    ) -> ObjectInfo:
        return await put.put(
            self._context,
            caller,
            bucket,
            key,
            body,
            headers=headers,
            precondition=precondition,
            encryption=encryption,
            deadline=deadline,
        )

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
        return await read.open_object(
            self._context,
            caller,
            bucket,
            key,
            wanted=wanted,
            part_number=part_number,
            customer_key=customer_key,
            deadline=deadline,
        )

    async def head(
        self, caller: Caller, bucket: str, key: str, *, customer_key: bytes = b"", deadline: float
    ) -> ObjectInfo:
        return await read.head(self._context, caller, bucket, key, customer_key=customer_key, deadline=deadline)

    async def delete(
        self, caller: Caller, bucket: str, key: str, *, precondition: Precondition = NO_CONDITION, deadline: float
    ) -> bool:
        return await delete.delete(self._context, caller, bucket, key, precondition=precondition, deadline=deadline)

    async def copy(
        self,
        caller: Caller,
        source: CopySource,
        bucket: str,
        key: str,
        *,
        headers: ObjectHeaders | None,
        checksum: ChecksumKind | None = None,
        precondition: Precondition = NO_CONDITION,
        encryption: Encryption | None = None,
        deadline: float,
    ) -> ObjectInfo:
        return await copy.copy(
            self._context,
            caller,
            source,
            bucket,
            key,
            headers=headers,
            checksum=checksum,
            precondition=precondition,
            encryption=encryption,
            deadline=deadline,
        )

    async def list(self, caller: Caller, request: ListRequest, *, deadline: float) -> ListPage:
        return await listing.list_objects(self._context, caller, request, deadline=deadline)

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
        return await multipart.create_upload(
            self._context,
            caller,
            bucket,
            key,
            headers=headers,
            checksum_kind=checksum_kind,
            checksum_composite=checksum_composite,
            encryption=encryption,
            deadline=deadline,
        )

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
        return await multipart.put_part(
            self._context,
            caller,
            bucket,
            key,
            upload_id,
            number,
            body,
            customer_key=customer_key,
            deadline=deadline,
        )

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
        return await copy.copy_part(
            self._context,
            caller,
            source,
            wanted,
            bucket,
            key,
            upload_id,
            number,
            customer_key=customer_key,
            deadline=deadline,
        )

    async def complete_upload(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        upload_id: str,
        parts: tuple[CompletedPart, ...],
        *,
        checksum: Checksum | None = None,
        precondition: Precondition = NO_CONDITION,
        deadline: float,
    ) -> ObjectInfo:
        return await multipart.complete_upload(
            self._context,
            caller,
            bucket,
            key,
            upload_id,
            parts,
            checksum=checksum,
            precondition=precondition,
            deadline=deadline,
        )

    async def abort_upload(self, caller: Caller, bucket: str, key: str, upload_id: str, *, deadline: float) -> None:
        await multipart.abort_upload(self._context, caller, bucket, key, upload_id, deadline=deadline)

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
        return await multipart.list_parts(
            self._context, caller, bucket, key, upload_id, after=after, limit=limit, deadline=deadline
        )

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
        return await listing.list_uploads(
            self._context,
            caller,
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_upload=after_upload,
            limit=limit,
            deadline=deadline,
        )
