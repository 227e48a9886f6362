"""Object headers as the bytes that metadata keeps: b"" for all defaults, else a format byte and JSON.

[1 format = 1][JSON array: content type, {system}, {user}]
"""

from __future__ import annotations

import json

from dwd.base.errors import Corrupt, InvalidArgument, VersionRefused
from dwd.objects.ports import ObjectHeaders

FORMAT = b"\x01"
HEADERS_BYTES_MAX = 8 * 1024
USER_METADATA_BYTES_MAX = 2 * 1024
"""S3's limit: names and values together."""
DEFAULT = ObjectHeaders()


def encode_headers(headers: ObjectHeaders) -> bytes:
    """Raises InvalidArgument objects.metadata_too_large."""
    if headers == DEFAULT:
        return b""
    used = sum(len(name.encode()) + len(value.encode()) for name, value in headers.user.items())
    if used > USER_METADATA_BYTES_MAX:
        raise InvalidArgument(
            "objects.metadata_too_large",
            f"user metadata of {used} bytes is larger than {USER_METADATA_BYTES_MAX}",
            hint="names and values together count",
            limit=USER_METADATA_BYTES_MAX,
        )
    rows = [headers.content_type, dict(headers.system), dict(headers.user)]
    encoded = FORMAT + json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()
    if len(encoded) > HEADERS_BYTES_MAX:
        raise InvalidArgument("objects.metadata_too_large", f"object headers are larger than {HEADERS_BYTES_MAX} bytes")
    return encoded


def decode_headers(encoded: bytes) -> ObjectHeaders:
    """Raises VersionRefused (a later format), Corrupt."""
    if not encoded:
        return DEFAULT
    if encoded[:1] != FORMAT:
        raise VersionRefused("objects.headers_format", f"object headers of unknown format {encoded[0]}")
    try:
        content_type, system, user = json.loads(encoded[1:])
    except (ValueError, TypeError) as error:
        raise Corrupt("objects.headers_damaged", "stored object headers cannot be read") from error
    return ObjectHeaders(content_type=content_type, system=system, user=user)
