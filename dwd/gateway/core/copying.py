"""What a copy copies: x-amz-copy-source and its conditions, and the metadata directive.

Source: AWS CopyObject, UploadPartCopy.
"""

from __future__ import annotations

from collections.abc import Mapping

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.conditions import date_ms, parse_etags
from dwd.gateway.core.encryption import customer_key
from dwd.gateway.core.head import decode
from dwd.objects.core.names import check_bucket_name, check_key
from dwd.objects.ports import CopySource, Precondition


def read_copy_source(headers: Mapping[str, str], *, secure: bool) -> CopySource:
    """Raises InvalidArgument s3.invalid_argument, objects.invalid_bucket_name, objects.key_too_long."""
    raw, _, version = headers.get("x-amz-copy-source", "").partition("?")
    if version and version != "versionId=null":
        raise InvalidArgument("s3.invalid_argument", "Invalid version id specified", argument_name="versionId")
    bucket, found, key = decode(raw).removeprefix("/").partition("/")
    if not found or not bucket or not key:
        raise InvalidArgument(
            "s3.invalid_argument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            argument_name="x-amz-copy-source",
        )
    check_bucket_name(bucket)
    check_key(key)
    return CopySource(
        bucket=bucket,
        key=key,
        precondition=Precondition(
            if_match=parse_etags(headers.get("x-amz-copy-source-if-match", "")),
            if_none_match=parse_etags(headers.get("x-amz-copy-source-if-none-match", "")),
        ),
        modified_since_unix_ms=date_ms(headers.get("x-amz-copy-source-if-modified-since")),
        unmodified_since_unix_ms=date_ms(headers.get("x-amz-copy-source-if-unmodified-since")),
        customer_key=customer_key(headers, secure=secure, source=True),
    )


def replaces_metadata(headers: Mapping[str, str]) -> bool:
    """Whether the copy takes its metadata from the request. Raises InvalidArgument s3.invalid_argument."""
    directive = headers.get("x-amz-metadata-directive", "COPY").upper()
    if directive not in {"COPY", "REPLACE"}:
        raise InvalidArgument(
            "s3.invalid_argument", "Unknown metadata directive.", argument_name="x-amz-metadata-directive"
        )
    return directive == "REPLACE"
