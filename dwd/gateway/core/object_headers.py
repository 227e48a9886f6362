"""What a client says of an object besides its bytes, and how it is told again.

Invariants: headers that ask for what is not offered are refused, never dropped: a client that asked for encryption
must not believe it got it.
Source: AWS PutObject, GetObject; "User-defined object metadata" (2 KiB, lower-case names).
"""

from __future__ import annotations

from collections.abc import Mapping

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.dates import http_date
from dwd.gateway.core.encryption import OFFERED as ENCRYPTION
from dwd.objects.ports import ObjectHeaders, ObjectInfo

USER_METADATA_BYTES_MAX = 2_048
SYSTEM_HEADER_BYTES_MAX = 4_096

_SYSTEM = ("cache-control", "content-disposition", "content-language", "expires")
_USER_PREFIX = "x-amz-meta-"
_DEFAULT_TYPE = "application/octet-stream"
_STORAGE_CLASSES = frozenset({"STANDARD"})
_ACLS = frozenset({"private", "bucket-owner-full-control"})
_RESPONSE_OVERRIDES = {
    "response-content-type": "Content-Type",
    "response-content-language": "Content-Language",
    "response-expires": "Expires",
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
}
_NOT_OFFERED = (
    "x-amz-server-side-encryption",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-rename-source",
)
_OFFERED = ENCRYPTION | {"x-amz-tagging-directive"}
"""But for these."""


def read_object_headers(headers: Mapping[str, str]) -> ObjectHeaders:
    """Raises InvalidArgument s3.metadata_too_large, s3.invalid_argument."""
    system: dict[str, str] = {}
    user: dict[str, str] = {}
    size = 0
    for name, value in headers.items():
        if name.startswith(_USER_PREFIX):
            text = _clean(name, value)
            user[name[len(_USER_PREFIX) :]] = text
            size += len(name) - len(_USER_PREFIX) + len(text.encode())
        elif name in _SYSTEM:
            system[name] = _clean(name, value)
    if size > USER_METADATA_BYTES_MAX:
        raise InvalidArgument(
            "s3.metadata_too_large",
            "Your metadata headers exceed the maximum allowed metadata size",
            size=size,
            max_size_allowed=USER_METADATA_BYTES_MAX,
        )
    encoding = headers.get("content-encoding")
    if encoding is not None:
        # aws-chunked is how the body travelled, not what the object is.
        kept = ",".join(part.strip() for part in encoding.split(",") if part.strip().lower() != "aws-chunked")
        if kept:
            system["content-encoding"] = _clean("content-encoding", kept)
    content_type = headers.get("content-type")
    return ObjectHeaders(
        content_type=_clean("content-type", content_type) if content_type else _DEFAULT_TYPE, system=system, user=user
    )


def check_offered(headers: Mapping[str, str]) -> None:
    """Refuse what would otherwise be silently ignored.

    Raises InvalidArgument s3.not_implemented, s3.invalid_storage_class, s3.acl_not_supported.
    """
    for name, value in headers.items():
        if not name.startswith("x-amz-"):
            continue
        if name.startswith(_NOT_OFFERED) and name not in _OFFERED:
            if name == "x-amz-bucket-object-lock-enabled" and value.lower() == "false":
                continue
            raise InvalidArgument(
                "s3.not_implemented",
                "A header you provided implies functionality that is not implemented",
                header=name[:128],
            )
        if name == "x-amz-storage-class" and value not in _STORAGE_CLASSES:
            raise InvalidArgument("s3.invalid_storage_class", "The storage class you specified is not valid")
        if name.startswith("x-amz-grant-") or (name == "x-amz-acl" and value not in _ACLS):
            raise InvalidArgument("s3.acl_not_supported", "The bucket does not allow ACLs")


def entity_headers(info: ObjectInfo) -> dict[str, str]:
    """Of a GET or HEAD answer, without lengths and ranges."""
    said = info.headers
    answer = {
        "Last-Modified": http_date(info.modified_unix_ms // 1_000),
        "ETag": f'"{info.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": said.content_type,
    }
    for name, value in said.system.items():
        answer[_CANONICAL.get(name, name)] = value
    for name, value in said.user.items():
        answer[_USER_PREFIX + name] = value
    return answer


def response_overrides(query: Mapping[str, str]) -> dict[str, str]:
    """Headers that a GET's response-* parameters ask for. Raises InvalidArgument s3.invalid_argument."""
    found: dict[str, str] = {}
    for name, header in _RESPONSE_OVERRIDES.items():
        value = query.get(name)
        if value is not None:
            found[header] = _clean(name, value)
    return found


_CANONICAL = {
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "expires": "Expires",
}


def _clean(name: str, value: str) -> str:
    """A value that can be stored as UTF-8 and sent again as one header line."""
    text = value.strip()
    if len(text) > SYSTEM_HEADER_BYTES_MAX:
        raise InvalidArgument("s3.invalid_argument", f"The value of {name[:64]} is too long.", argument_name=name[:64])
    if text.isascii() and text.isprintable():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("s3.invalid_argument", f"The value of {name[:64]} is not UTF-8.") from None
    if any(character < " " and character != "\t" for character in text) or "\x7f" in text:
        raise InvalidArgument("s3.invalid_argument", f"The value of {name[:64]} has control characters.")
    return text
