"""Listings of objects, v1 and v2: what was asked, and the document of a page.

Source: AWS ListObjects, ListObjectsV2. With encoding-type=url every name is percent-encoded but for its slashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dwd.gateway.core.dates import iso_date
from dwd.gateway.core.documents import checksum_tag, decode_token, encode_token, etag_element, owner
from dwd.gateway.core.head import encode
from dwd.gateway.core.parameters import page_limit, wants_url_encoding
from dwd.gateway.core.xml_write import document, element, escape
from dwd.objects.ports import ListPage, ListRequest, ObjectInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """A listing as asked for: `wanted` for the store, the rest to be repeated to the client."""

    wanted: ListRequest
    version: int
    url_encoded: bool
    with_owner: bool
    marker: str
    token: str
    start_after: str


def read_list_query(bucket: str, query: Mapping[str, str], *, version: int) -> ListQuery:
    """Raises InvalidArgument s3.invalid_argument."""
    token = query.get("continuation-token", "") if version == 2 else ""
    marker = query.get("marker", "") if version == 1 else ""
    start_after = query.get("start-after", "") if version == 2 else ""
    after = decode_token(token) if token else marker or start_after
    return ListQuery(
        wanted=ListRequest(
            bucket=bucket,
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=after,
            limit=page_limit(query, "max-keys"),
        ),
        version=version,
        url_encoded=wants_url_encoding(query),
        with_owner=version == 1 or query.get("fetch-owner", "").lower() == "true",
        marker=marker,
        token=token,
        start_after=start_after,
    )


def list_document(query: ListQuery, page: ListPage, user: str) -> bytes:
    """ListBucketResult; `user` owns the bucket."""
    wanted = query.wanted
    text = name_writer(url_encoded=query.url_encoded)
    content = [
        element("Name", wanted.bucket),
        f"<Prefix>{text(wanted.prefix)}</Prefix>",
    ]
    if wanted.delimiter:
        content.append(f"<Delimiter>{text(wanted.delimiter)}</Delimiter>")
    content += [element("MaxKeys", wanted.limit), element("IsTruncated", page.truncated)]
    if query.url_encoded:
        content.append("<EncodingType>url</EncodingType>")
    content += _position_v1(query, page, text) if query.version == 1 else _position_v2(query, page, text)
    owned = owner(user) if query.with_owner else ""
    content += [_object(info, text, owned) for info in page.objects]
    content += prefixes(page.prefixes, text)
    return document("ListBucketResult", *content)


def name_writer(*, url_encoded: bool) -> Callable[[str], str]:
    """How names go into the document."""
    return _encoded if url_encoded else escape


def prefixes(found: tuple[str, ...], text: Callable[[str], str]) -> list[str]:
    return [f"<CommonPrefixes><Prefix>{text(prefix)}</Prefix></CommonPrefixes>" for prefix in found]


def _position_v1(query: ListQuery, page: ListPage, text: Callable[[str], str]) -> list[str]:
    content = [f"<Marker>{text(query.marker)}</Marker>"]
    if page.truncated:
        content.append(f"<NextMarker>{text(page.next_after)}</NextMarker>")
    return content


def _position_v2(query: ListQuery, page: ListPage, text: Callable[[str], str]) -> list[str]:
    content = [element("KeyCount", len(page.objects) + len(page.prefixes))]
    if query.token:
        content.append(element("ContinuationToken", query.token))
    if page.truncated:
        content.append(element("NextContinuationToken", encode_token(page.next_after)))
    if query.start_after:
        content.append(f"<StartAfter>{text(query.start_after)}</StartAfter>")
    return content


def _object(info: ObjectInfo, text: Callable[[str], str], owned: str) -> str:
    checksum = info.checksum
    algorithm = (
        ""
        if checksum is None
        else f"<ChecksumAlgorithm>{checksum_tag(checksum.kind)[8:]}</ChecksumAlgorithm>"
        f"<ChecksumType>{'COMPOSITE' if checksum.composite else 'FULL_OBJECT'}</ChecksumType>"
    )
    return (
        f"<Contents><Key>{text(info.key)}</Key><LastModified>{iso_date(info.modified_unix_ms)}</LastModified>"
        f"{etag_element(info.etag)}{algorithm}<Size>{info.size}</Size>{owned}"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def _encoded(text: str) -> str:
    return encode(text, keep="/")
