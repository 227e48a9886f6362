"""Documents of multipart uploads: what Complete brings, what the two listings answer.

Source: AWS CompleteMultipartUpload, ListParts, ListMultipartUploads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.checksums import (
    COMPOSITE_ONLY,
    DIGEST_BYTES,
    FULL_OBJECT_ONLY,
    KIND_OF_HEADER,
    decode_digest,
    parse_kind,
)
from dwd.gateway.core.dates import iso_date
from dwd.gateway.core.documents import checksum_elements, checksum_tag, etag_element, owner
from dwd.gateway.core.listing import name_writer, prefixes
from dwd.gateway.core.parameters import PART_NUMBER_MAX, page_limit, part_number, wants_url_encoding
from dwd.gateway.core.xml_read import Element, children, malformed, parse_document, text_of
from dwd.gateway.core.xml_write import document, element, escape
from dwd.objects.ports import Checksum, ChecksumKind, CompletedPart, PartPage, UploadInfo, UploadPage

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
_NO_CHECKSUM = (None, True)


def read_completion(data: bytes) -> tuple[CompletedPart, ...]:
    """The parts of a CompleteMultipartUpload document, in the order given. Raises InvalidArgument s3.malformed_xml."""
    tree = parse_document(data, "CompleteMultipartUpload")
    parts = tuple(_completed_part(one) for one in children(tree, "Part"))
    if not parts:
        raise malformed("no Part")
    if len(parts) > PART_NUMBER_MAX:
        raise malformed("too many Parts")
    return parts


def _completed_part(part: Element) -> CompletedPart:
    number, etag = text_of(part, "PartNumber"), text_of(part, "ETag")
    if number is None or etag is None:
        raise malformed("a Part without PartNumber or ETag")
    checksum = None
    for kind in ChecksumKind:
        value = text_of(part, checksum_tag(kind))
        if value is not None:
            checksum = Checksum(kind=kind, value=value.strip())
    return CompletedPart(number=part_number(number.strip()), etag=etag.strip().strip('"'), checksum=checksum)


def upload_checksum(headers: Mapping[str, str]) -> tuple[ChecksumKind | None, bool]:
    """(kind, composite) that CreateMultipartUpload asks for. Raises InvalidArgument s3.invalid_request."""
    algorithm = headers.get("x-amz-checksum-algorithm")
    wanted = headers.get("x-amz-checksum-type", "").upper()
    if algorithm is None:
        if wanted:
            raise InvalidArgument("s3.invalid_request", "x-amz-checksum-type needs x-amz-checksum-algorithm beside it.")
        return _NO_CHECKSUM
    kind = parse_kind(algorithm, "x-amz-checksum-algorithm")
    if wanted not in {"", "COMPOSITE", "FULL_OBJECT"}:
        raise InvalidArgument("s3.invalid_request", "Value for x-amz-checksum-type header is invalid.")
    composite = kind not in FULL_OBJECT_ONLY if not wanted else wanted == "COMPOSITE"
    if (composite and kind in FULL_OBJECT_ONLY) or (not composite and kind in COMPOSITE_ONLY):
        raise InvalidArgument(
            "s3.invalid_request",
            f"The {wanted} checksum type cannot be used with the {kind.value} checksum algorithm.",
        )
    return kind, composite


def completion_checksum(headers: Mapping[str, str]) -> Checksum | None:
    """The whole object's checksum that Complete claims. Raises InvalidArgument s3.invalid_request."""
    for name, kind in KIND_OF_HEADER.items():
        text = headers.get(name)
        if text is None:
            continue
        value, composite, count = text.strip().partition("-")
        if decode_digest(value, DIGEST_BYTES[kind]) is None or (composite and not count.isdigit()):
            raise InvalidArgument("s3.invalid_request", f"Value for {name} header is invalid.")
        return Checksum(kind=kind, value=text.strip(), composite=bool(composite))
    return None


def initiated(info: UploadInfo) -> bytes:
    return document(
        "InitiateMultipartUploadResult",
        element("Bucket", info.bucket),
        element("Key", info.key),
        element("UploadId", info.upload_id),
    )


def parts_document(page: PartPage, user: str, *, after: int, limit: int) -> bytes:
    upload = page.upload
    content = [
        element("Bucket", upload.bucket),
        element("Key", upload.key),
        element("UploadId", upload.upload_id),
        owner(user, "Initiator"),
        owner(user),
        "<StorageClass>STANDARD</StorageClass>",
        element("PartNumberMarker", after),
        element("NextPartNumberMarker", page.parts[-1].number if page.parts else after),
        element("MaxParts", limit),
        element("IsTruncated", page.truncated),
        _upload_checksum_elements(upload),
    ]
    content += [
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{iso_date(part.modified_unix_ms)}</LastModified>"
        f"{etag_element(part.etag)}{checksum_elements(part.checksum)}<Size>{part.size}</Size></Part>"
        for part in page.parts
    ]
    return document("ListPartsResult", *content)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsQuery:
    """A listing of uploads as asked for."""

    prefix: str
    delimiter: str
    key_marker: str
    upload_marker: str
    limit: int
    url_encoded: bool


def read_uploads_query(query: Mapping[str, str]) -> UploadsQuery:
    """Raises InvalidArgument s3.invalid_argument."""
    key_marker = query.get("key-marker", "")
    return UploadsQuery(
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        key_marker=key_marker,
        # Without a key it means nothing; AWS ignores it.
        upload_marker=query.get("upload-id-marker", "") if key_marker else "",
        limit=page_limit(query, "max-uploads"),
        url_encoded=wants_url_encoding(query),
    )


def uploads_document(bucket: str, query: UploadsQuery, page: UploadPage, user: str) -> bytes:
    text = name_writer(url_encoded=query.url_encoded)
    content = [
        element("Bucket", bucket),
        f"<KeyMarker>{text(query.key_marker)}</KeyMarker>",
        f"<UploadIdMarker>{escape(query.upload_marker)}</UploadIdMarker>",
        f"<Prefix>{text(query.prefix)}</Prefix>",
    ]
    if query.delimiter:
        content.append(f"<Delimiter>{text(query.delimiter)}</Delimiter>")
    content += [element("MaxUploads", query.limit), element("IsTruncated", page.truncated)]
    if query.url_encoded:
        content.append("<EncodingType>url</EncodingType>")
    if page.truncated:
        content += _next_markers(page, text)
    user_elements = owner(user, "Initiator") + owner(user)
    content += [
        f"<Upload><Key>{text(one.key)}</Key><UploadId>{escape(one.upload_id)}</UploadId>{user_elements}"
        f"<StorageClass>STANDARD</StorageClass><Initiated>{iso_date(one.initiated_unix_ms)}</Initiated>"
        f"{_upload_checksum_elements(one)}</Upload>"
        for one in page.uploads
    ]
    content += prefixes(page.prefixes, text)
    return document("ListMultipartUploadsResult", *content)


def _next_markers(page: UploadPage, text: Callable[[str], str]) -> list[str]:
    """The greatest of what the page shows: an upload, or a common prefix after it."""
    last_key = page.uploads[-1].key if page.uploads else ""
    last_prefix = page.prefixes[-1] if page.prefixes else ""
    if page.uploads and last_key.encode() >= last_prefix.encode():
        return [
            f"<NextKeyMarker>{text(last_key)}</NextKeyMarker>",
            f"<NextUploadIdMarker>{escape(page.uploads[-1].upload_id)}</NextUploadIdMarker>",
        ]
    return [f"<NextKeyMarker>{text(last_prefix)}</NextKeyMarker>", "<NextUploadIdMarker></NextUploadIdMarker>"]


def _upload_checksum_elements(upload: UploadInfo) -> str:
    if upload.checksum_kind is None:
        return ""
    return element("ChecksumAlgorithm", upload.checksum_kind.value) + element(
        "ChecksumType", "COMPOSITE" if upload.checksum_composite else "FULL_OBJECT"
    )
