"""Objects through the admin service: what `dwctl object` moves, in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from dwd.admin.context import OPERATOR, TRANSFER_SECONDS, AdminContext
from dwd.base.errors import InvalidArgument
from dwd.base.limits import CHUNK_BYTES, LIST_PAGE_MAX
from dwd.objects.ports import Checksum, ListRequest, ObjectHeaders, ObjectInfo, Precondition
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.runtime.files import Buffer


class StreamedBody:
    """The chunks of a PutObject stream as an upload's body."""

    def __init__(self, requests: AsyncIterator[pb.PutObjectRequest], size: int | None) -> None:
        self._requests = requests
        self._size = size

    @property
    def length(self) -> int | None:
        return self._size

    async def chunks(self) -> AsyncGenerator[Buffer, None]:
        """Raises InvalidArgument when the stream does not bring the bytes it announced."""
        received = 0
        async for request in self._requests:
            if request.WhichOneof("part") != "chunk":
                raise InvalidArgument("admin.put_malformed", "after the head an upload holds chunks only")
            received += len(request.chunk)
            yield request.chunk
        if self._size is not None and received != self._size:
            raise InvalidArgument(
                "admin.put_cut_off",
                f"{received} of {self._size} bytes arrived; nothing was stored",
                hint="send it again",
            )

    def checksum(self) -> Checksum | None:
        return None


async def put(context: AdminContext, requests: AsyncIterator[pb.PutObjectRequest]) -> pb.Object:
    """Raises InvalidArgument, Conflict objects.precondition_failed, NotFound."""
    first = await anext(requests, None)
    if first is None or first.WhichOneof("part") != "head":
        raise InvalidArgument("admin.put_malformed", "an upload begins with its head")
    head = first.head
    info = await context.objects.put(
        OPERATOR,
        head.bucket,
        head.key,
        StreamedBody(requests, head.size if head.HasField("size") else None),
        headers=ObjectHeaders(content_type=head.content_type or "application/octet-stream", user={**head.metadata}),
        precondition=Precondition(if_none_match=("*",)) if head.only_if_absent else Precondition(),
        deadline=context.deadline(TRANSFER_SECONDS),
    )
    return object_message(info)


async def get(context: AdminContext, request: pb.GetObjectRequest) -> AsyncIterator[pb.GetObjectReply]:
    """The head, then the bytes in chunks of at most CHUNK_BYTES."""
    reader = await context.objects.open(OPERATOR, request.bucket, request.key, deadline=context.deadline())
    yield pb.GetObjectReply(head=object_message(reader.info))
    async for piece in reader.chunks():
        view = memoryview(piece)
        for start in range(0, len(view), CHUNK_BYTES):
            yield pb.GetObjectReply(chunk=bytes(view[start : start + CHUNK_BYTES]))


async def list_objects(context: AdminContext, request: pb.ListObjectsRequest) -> pb.ListObjectsReply:
    wanted = ListRequest(
        bucket=request.bucket,
        prefix=request.prefix,
        delimiter=request.delimiter,
        after=request.after,
        limit=min(request.limit or LIST_PAGE_MAX, LIST_PAGE_MAX),
    )
    page = await context.objects.list(OPERATOR, wanted, deadline=context.deadline())
    return pb.ListObjectsReply(
        objects=[object_message(info) for info in page.objects],
        prefixes=page.prefixes,
        truncated=page.truncated,
        next_after=page.next_after,
    )


def object_message(info: ObjectInfo) -> pb.Object:
    checksum = f"{info.checksum.kind.value}:{info.checksum.value}" if info.checksum is not None else ""
    return pb.Object(
        bucket=info.bucket,
        key=info.key,
        size=info.size,
        etag=info.etag,
        modified_unix_ms=info.modified_unix_ms,
        content_type=info.headers.content_type,
        metadata=dict(info.headers.user),
        checksum=checksum,
    )
