"""DeleteObjects: the batch asked for and the answer, key by key.

Source: AWS DeleteObjects (at most 1,000 keys a request).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dwd.gateway.core.xml_read import children, malformed, parse_document, text_of
from dwd.gateway.core.xml_write import document, element

KEYS_MAX = 1_000
DOCUMENT_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteItem:
    key: str
    etag: str
    """Delete only if the object has this one; empty for always."""
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    items: tuple[DeleteItem, ...]
    quiet: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`code` is empty for what was deleted, or was not there."""

    key: str
    code: str = ""
    message: str = ""


def read_batch(data: bytes) -> Batch:
    """Raises InvalidArgument s3.malformed_xml."""
    tree = parse_document(data, "Delete")
    items = []
    for one in children(tree, "Object"):
        key = text_of(one, "Key")
        if not key:
            raise malformed("an Object without Key")
        etag = (text_of(one, "ETag") or "").strip().strip('"')
        items.append(DeleteItem(key=key, etag=etag, version=text_of(one, "VersionId") or ""))
    if not 0 < len(items) <= KEYS_MAX:
        raise malformed(f"1 to {KEYS_MAX} Objects are allowed")
    return Batch(items=tuple(items), quiet=(text_of(tree, "Quiet") or "").strip().lower() == "true")


def batch_document(outcomes: Iterable[Outcome], *, quiet: bool) -> bytes:
    """DeleteResult, in the order asked."""
    content = []
    for one in outcomes:
        if one.code:
            content.append(
                f"<Error>{element('Key', one.key)}{element('Code', one.code)}{element('Message', one.message)}</Error>"
            )
        elif not quiet:
            content.append(f"<Deleted>{element('Key', one.key)}</Deleted>")
    return document("DeleteResult", *content)
