"""The one table from errors to S3 codes and HTTP statuses, and the document a client gets.

Look-up is by the error's own code first, then by its class. Errors from below the object API keep their text to
themselves: a client learns what to do, not which node failed.

Source: AWS "Error responses" (list of error codes).
"""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base import errors
from dwd.base.errors import DwError
from dwd.gateway.core.xml_write import document, element

RETRY_AFTER_SECONDS = 1


@dataclass(frozen=True, slots=True)
class S3Error:
    """`message` replaces the error's own where that is not for clients."""

    code: str
    status: int
    message: str = ""


_INTERNAL = S3Error("InternalError", 500, "We encountered an internal error. Please try again.")
_UNAVAILABLE = S3Error("ServiceUnavailable", 503, "Service is unable to handle request. Please try again.")
_SLOW_DOWN = S3Error("SlowDown", 503, "Please reduce your request rate.")

BY_CODE = {
    "objects.bucket_exists": S3Error("BucketAlreadyExists", 409),
    "objects.bucket_not_empty": S3Error("BucketNotEmpty", 409),
    "objects.bucket_owned_by_you": S3Error("BucketAlreadyOwnedByYou", 409),
    "objects.checksum_mismatch": S3Error("BadDigest", 400),
    "objects.checksum_not_combinable": S3Error("InvalidRequest", 400),
    "objects.customer_key_invalid": S3Error("InvalidArgument", 400),
    "objects.customer_key_needed": S3Error("InvalidRequest", 400),
    "objects.customer_key_not_used": S3Error("InvalidRequest", 400),
    "objects.customer_key_wrong": S3Error("AccessDenied", 403),
    "objects.named_key_disabled": S3Error("KMS.DisabledException", 400),
    "objects.named_key_needed": S3Error("InvalidArgument", 400),
    "objects.no_such_named_key": S3Error("KMS.NotFoundException", 400),
    "objects.invalid_bucket_name": S3Error("InvalidBucketName", 400),
    "objects.invalid_key": S3Error("InvalidArgument", 400),
    "objects.key_too_long": S3Error("KeyTooLongError", 400),
    "objects.metadata_too_large": S3Error("MetadataTooLarge", 400),
    "objects.too_large": S3Error("EntityTooLarge", 400),
    "objects.invalid_part": S3Error("InvalidPart", 400),
    "objects.invalid_part_order": S3Error("InvalidPartOrder", 400),
    "objects.no_such_bucket": S3Error("NoSuchBucket", 404),
    "objects.no_such_key": S3Error("NoSuchKey", 404),
    "objects.no_such_part": S3Error("InvalidPartNumber", 416),
    "objects.no_such_upload": S3Error("NoSuchUpload", 404),
    "objects.part_too_small": S3Error("EntityTooSmall", 400),
    "objects.precondition_failed": S3Error("PreconditionFailed", 412),
    "objects.range_not_satisfiable": S3Error("InvalidRange", 416),
    "s3.access_denied": S3Error("AccessDenied", 403),
    "s3.acl_not_supported": S3Error("AccessControlListNotSupported", 400),
    "s3.authorization_malformed": S3Error("AuthorizationHeaderMalformed", 400),
    "s3.bad_digest": S3Error("BadDigest", 400),
    "s3.bad_http": S3Error("BadRequest", 400),
    "s3.content_sha256_mismatch": S3Error("XAmzContentSHA256Mismatch", 400),
    "s3.entity_too_large": S3Error("EntityTooLarge", 400),
    "s3.illegal_location": S3Error("IllegalLocationConstraintException", 400),
    "s3.incomplete_body": S3Error("IncompleteBody", 400),
    "s3.invalid_access_key": S3Error("InvalidAccessKeyId", 403),
    "s3.invalid_argument": S3Error("InvalidArgument", 400),
    "s3.invalid_digest": S3Error("InvalidDigest", 400),
    "s3.invalid_encryption_algorithm": S3Error("InvalidEncryptionAlgorithmError", 400),
    "s3.invalid_request": S3Error("InvalidRequest", 400),
    "s3.invalid_storage_class": S3Error("InvalidStorageClass", 400),
    "s3.invalid_uri": S3Error("InvalidURI", 400),
    "s3.malformed_trailer": S3Error("MalformedTrailerError", 400),
    "s3.malformed_xml": S3Error("MalformedXML", 400),
    "s3.metadata_too_large": S3Error("MetadataTooLarge", 400),
    "s3.method_not_allowed": S3Error("MethodNotAllowed", 405),
    "s3.missing_content_length": S3Error("MissingContentLength", 411),
    "s3.no_bucket_policy": S3Error("NoSuchBucketPolicy", 404),
    "s3.no_cors": S3Error("NoSuchCORSConfiguration", 404),
    "s3.no_encryption": S3Error("ServerSideEncryptionConfigurationNotFoundError", 404),
    "s3.no_lifecycle": S3Error("NoSuchLifecycleConfiguration", 404),
    "s3.no_object_lock": S3Error("ObjectLockConfigurationNotFoundError", 404),
    "s3.no_replication": S3Error("ReplicationConfigurationNotFoundError", 404),
    "s3.no_tags": S3Error("NoSuchTagSet", 404),
    "s3.no_website": S3Error("NoSuchWebsiteConfiguration", 404),
    "s3.not_implemented": S3Error("NotImplemented", 501),
    "s3.query_malformed": S3Error("AuthorizationQueryParametersError", 400),
    "s3.request_time_too_skewed": S3Error("RequestTimeTooSkewed", 403),
    "s3.request_timeout": S3Error("RequestTimeout", 400),
    "s3.signature_does_not_match": S3Error("SignatureDoesNotMatch", 403),
    "s3.slow_down": S3Error("SlowDown", 503),
    "s3.stopping": S3Error("ServiceUnavailable", 503),
}

BY_KIND: tuple[tuple[type[DwError], S3Error], ...] = (
    (errors.InvalidArgument, S3Error("InvalidArgument", 400)),
    (errors.NotFound, S3Error("NoSuchKey", 404)),
    (errors.AlreadyExists, S3Error("OperationAborted", 409)),
    (errors.Conflict, S3Error("OperationAborted", 409, "A conflicting operation is in progress. Please try again.")),
    (errors.Unauthenticated, S3Error("AccessDenied", 403, "Access Denied")),
    (errors.PermissionDenied, S3Error("AccessDenied", 403, "Access Denied")),
    (errors.Busy, _SLOW_DOWN),
    (errors.NoSpace, S3Error("ServiceUnavailable", 503, "The storage is full. Please try again later.")),
    (errors.Unavailable, _UNAVAILABLE),
    (errors.DeadlineExceeded, _UNAVAILABLE),
    (errors.OutcomeUnknown, _INTERNAL),
)


def s3_error(error: DwError) -> S3Error:
    """The S3 code and status for `error`; InternalError for what no client can act on."""
    found = BY_CODE.get(error.code)
    if found is not None:
        return found
    for kind, answer in BY_KIND:
        if isinstance(error, kind):
            return answer
    return _INTERNAL


def error_document(error: DwError, answer: S3Error, *, resource: str, request_id: str) -> bytes:
    """The Error document. Fields of errors that speak to clients become elements: max_size_allowed, MaxSizeAllowed."""
    content = [element("Code", answer.code), element("Message", answer.message or error.message)]
    if error.code in BY_CODE:
        content += [
            element(_FIELD_NAMES.get(name) or _camel(name), value)
            for name, value in error.fields.items()
            if not isinstance(value, float)
        ]
    content += [element("Resource", resource), element("RequestId", request_id), element("HostId", request_id)]
    return document("Error", *content, namespace=False)


def error_headers(error: DwError, answer: S3Error) -> dict[str, str]:
    """What the status wants besides the document."""
    if answer.status == 503:
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    if answer.status == 416 and "size" in error.fields:
        return {"Content-Range": f"bytes */{error.fields['size']}"}
    if answer.status == 405 and error.fields.get("allow"):
        return {"Allow": str(error.fields["allow"])}
    return {}


_FIELD_NAMES = {"bucket": "BucketName", "size": "ActualObjectSize"}


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
