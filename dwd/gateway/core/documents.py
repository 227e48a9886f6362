"""The documents S3 answers with, built from the values of the object API.

Source: AWS API reference, the response syntax of each operation.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from contextlib import suppress

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.checksums import HEADER_OF
from dwd.gateway.core.dates import iso_date
from dwd.gateway.core.xml_write import document, element
from dwd.objects.ports import BucketInfo, Checksum, ChecksumKind, ObjectInfo

TOKEN_BYTES_MAX = 4_096
_CURSOR_FORM = "1"


def owner(user: str, name: str = "Owner") -> str:
    return f"<{name}>{element('ID', user)}{element('DisplayName', user)}</{name}>"


def etag_element(etag: str) -> str:
    return f"<ETag>&quot;{etag}&quot;</ETag>"


def checksum_elements(checksum: Checksum | None, *, with_type: bool = False) -> str:
    """<ChecksumCRC32>...: nothing where there is none."""
    if checksum is None:
        return ""
    content = element(checksum_tag(checksum.kind), checksum.value)
    if with_type:
        content += element("ChecksumType", "COMPOSITE" if checksum.composite else "FULL_OBJECT")
    return content


def checksum_tag(kind: ChecksumKind) -> str:
    return _TAGS[kind]


_TAGS = {kind: "Checksum" + header.removeprefix("x-amz-checksum-").upper() for kind, header in HEADER_OF.items()}


def list_buckets(buckets: Iterable[BucketInfo], user: str) -> bytes:
    rows = "".join(
        f"<Bucket>{element('Name', one.name)}{element('CreationDate', iso_date(one.created_unix_ms))}</Bucket>"
        for one in buckets
    )
    return document("ListAllMyBucketsResult", owner(user), f"<Buckets>{rows}</Buckets>")


def copy_result(name: str, etag: str, modified_unix_ms: int, checksum: Checksum | None) -> bytes:
    """Of CopyObject ("CopyObjectResult") and UploadPartCopy ("CopyPartResult")."""
    return document(
        name,
        element("LastModified", iso_date(modified_unix_ms)),
        etag_element(etag),
        checksum_elements(checksum, with_type=name == "CopyObjectResult"),
    )


def access_control(user: str) -> bytes:
    """Every bucket and object belongs wholly to its owner."""
    return document(
        "AccessControlPolicy",
        owner(user),
        "<AccessControlList><Grant>"
        '<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
        f"{element('ID', user)}{element('DisplayName', user)}</Grantee>"
        "<Permission>FULL_CONTROL</Permission></Grant></AccessControlList>",
    )


def completed(location: str, info: ObjectInfo) -> bytes:
    return document(
        "CompleteMultipartUploadResult",
        element("Location", location),
        element("Bucket", info.bucket),
        element("Key", info.key),
        etag_element(info.etag),
        checksum_elements(info.checksum, with_type=True),
    )


def encode_token(after: str) -> str:
    """A continuation token: opaque to clients, its version first."""
    return base64.urlsafe_b64encode((_CURSOR_FORM + after).encode()).decode("ascii")


def decode_token(token: str) -> str:
    """Raises InvalidArgument s3.invalid_argument for what `encode_token` did not make."""
    raw = b""
    if len(token) <= TOKEN_BYTES_MAX and token.isascii():
        with suppress(binascii.Error):
            raw = base64.urlsafe_b64decode(token)
    try:
        after = raw.decode()
    except UnicodeDecodeError:
        after = ""
    if not after.startswith(_CURSOR_FORM):
        raise InvalidArgument(
            "s3.invalid_argument",
            "The continuation token provided is incorrect",
            argument_name="continuation-token",
        )
    return after[1:]
