"""Which operation a request asks for: method, level (service, bucket, object) and sub-resource.

Invariants: a sub-resource that is not known here is refused (s3.not_implemented): answering `GET /b?newthing` with a
listing would be a wrong success. Parameters with a value that are not sub-resources are ignored, as AWS does.
"""

from __future__ import annotations

from enum import Enum

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.head import RequestHead


class Operation(Enum):
    """The S3 API names."""

    LIST_BUCKETS = "ListBuckets"
    CREATE_BUCKET = "CreateBucket"
    HEAD_BUCKET = "HeadBucket"
    DELETE_BUCKET = "DeleteBucket"
    LIST_OBJECTS = "ListObjects"
    LIST_OBJECTS_V2 = "ListObjectsV2"
    LIST_UPLOADS = "ListMultipartUploads"
    DELETE_OBJECTS = "DeleteObjects"
    GET_BUCKET_SETTING = "GetBucketSetting"
    PUT_BUCKET_ENCRYPTION = "PutBucketEncryption"
    DELETE_BUCKET_ENCRYPTION = "DeleteBucketEncryption"
    PUT_OBJECT = "PutObject"
    GET_OBJECT = "GetObject"
    HEAD_OBJECT = "HeadObject"
    DELETE_OBJECT = "DeleteObject"
    COPY_OBJECT = "CopyObject"
    GET_OBJECT_SETTING = "GetObjectSetting"
    CREATE_UPLOAD = "CreateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    UPLOAD_PART_COPY = "UploadPartCopy"
    COMPLETE_UPLOAD = "CompleteMultipartUpload"
    ABORT_UPLOAD = "AbortMultipartUpload"
    LIST_PARTS = "ListParts"


BUCKET_SETTINGS = frozenset({
    "accelerate", "acl", "cors", "encryption", "lifecycle", "location", "logging", "notification", "object-lock",
    "ownershipControls", "policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment", "tagging",
    "versioning", "website",
})  # fmt: skip
"""What clients ask buckets for; all may be read, encryption be changed."""
OBJECT_SETTINGS = frozenset({"acl", "legal-hold", "retention", "tagging"})
SUB_RESOURCES = BUCKET_SETTINGS | OBJECT_SETTINGS | frozenset({
    "abac", "analytics", "annotation", "attributes", "delete", "encryption", "intelligent-tiering", "inventory",
    "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable", "metadataTable", "metrics", "partNumber",
    "renameObject", "restore", "select", "session", "torrent", "uploadId", "uploads", "versions",
})  # fmt: skip

_SERVICE = {("GET", ""): Operation.LIST_BUCKETS}
_BUCKET = {
    ("PUT", ""): Operation.CREATE_BUCKET,
    ("HEAD", ""): Operation.HEAD_BUCKET,
    ("DELETE", ""): Operation.DELETE_BUCKET,
    ("GET", ""): Operation.LIST_OBJECTS,
    ("GET", "uploads"): Operation.LIST_UPLOADS,
    ("POST", "delete"): Operation.DELETE_OBJECTS,
    ("PUT", "encryption"): Operation.PUT_BUCKET_ENCRYPTION,
    ("DELETE", "encryption"): Operation.DELETE_BUCKET_ENCRYPTION,
    **{("GET", name): Operation.GET_BUCKET_SETTING for name in BUCKET_SETTINGS},
}
_OBJECT = {
    ("PUT", ""): Operation.PUT_OBJECT,
    ("GET", ""): Operation.GET_OBJECT,
    ("GET", "partNumber"): Operation.GET_OBJECT,
    ("HEAD", ""): Operation.HEAD_OBJECT,
    ("HEAD", "partNumber"): Operation.HEAD_OBJECT,
    ("DELETE", ""): Operation.DELETE_OBJECT,
    ("POST", "uploads"): Operation.CREATE_UPLOAD,
    ("PUT", "uploadId"): Operation.UPLOAD_PART,
    ("POST", "uploadId"): Operation.COMPLETE_UPLOAD,
    ("DELETE", "uploadId"): Operation.ABORT_UPLOAD,
    ("GET", "uploadId"): Operation.LIST_PARTS,
    **{("GET", name): Operation.GET_OBJECT_SETTING for name in OBJECT_SETTINGS},
}
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})


def route(head: RequestHead) -> Operation:
    """The operation asked for. Raises InvalidArgument s3.not_implemented, s3.method_not_allowed."""
    table = _OBJECT if head.key else _BUCKET if head.bucket else _SERVICE
    resource = sub_resource(head) if head.query else ""
    operation = table.get((head.method, resource))
    if operation is None:
        raise _refusal(head, table, resource)
    if operation is Operation.PUT_OBJECT and "x-amz-copy-source" in head.headers:
        return Operation.COPY_OBJECT
    if operation is Operation.UPLOAD_PART and "x-amz-copy-source" in head.headers:
        return Operation.UPLOAD_PART_COPY
    if operation is Operation.LIST_OBJECTS and head.query.get("list-type") == "2":
        return Operation.LIST_OBJECTS_V2
    return operation


def sub_resource(head: RequestHead) -> str:
    """The sub-resource named in the query; empty for none. An upload's id goes before its part's number."""
    found = ""
    for name, value in head.query.items():
        if name in SUB_RESOURCES:
            if found != "uploadId":
                found = name
        elif name == "versionId":
            if value != "null":
                raise InvalidArgument("s3.invalid_argument", "Invalid version id specified", argument_name="versionId")
        elif not value and name not in _VALUELESS:
            raise InvalidArgument(
                "s3.not_implemented", "A parameter you provided implies functionality that is not implemented",
                parameter=name[:64],
            )  # fmt: skip
    return found


_VALUELESS = frozenset({
    "prefix", "delimiter", "marker", "max-keys", "encoding-type", "list-type", "start-after", "continuation-token",
    "fetch-owner", "key-marker", "upload-id-marker", "max-uploads", "max-parts", "part-number-marker",
    "response-content-type", "response-content-language", "response-expires", "response-cache-control",
    "response-content-disposition", "response-content-encoding", "x-id", "X-Amz-Security-Token", "max-buckets",
    "bucket-region", "allow-unordered",
})  # fmt: skip


def _refusal(
    head: RequestHead, table: dict[tuple[str, str], Operation], resource: str
) -> InvalidArgument:  # fmt: skip
    if head.method in _METHODS and resource:
        return InvalidArgument(
            "s3.not_implemented",
            "A parameter you provided implies functionality that is not implemented",
            parameter=resource,
        )
    allowed = ", ".join(sorted(method for method, name in table if name == resource))
    return InvalidArgument(
        "s3.method_not_allowed",
        "The specified method is not allowed against this resource.",
        method=head.method[:16],
        allow=allowed,
    )
