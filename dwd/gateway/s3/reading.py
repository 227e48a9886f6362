"""What GET and HEAD of an object share: opening, preconditions, ranges, headers.

Source: AWS GetObject, HeadObject; RFC 9110 section 13.2.2 (conditions go before the range), 13.1.5 (If-Range).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dwd.base.errors import InvalidArgument, Unavailable
from dwd.gateway.core.checksums import checksum_headers
from dwd.gateway.core.conditions import UNCONDITIONAL, ReadConditions, Verdict, read_conditions
from dwd.gateway.core.dates import http_date
from dwd.gateway.core.encryption import customer_key, encryption_headers, refuse_wish
from dwd.gateway.core.object_headers import entity_headers
from dwd.gateway.core.parameters import part_number
from dwd.gateway.core.ranges import parse_range
from dwd.gateway.exchange import Exchange, Reply
from dwd.objects.core.ranges import ByteRange, RangeRequest
from dwd.objects.ports import ObjectInfo, ObjectReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of the object is wanted."""

    wanted: RangeRequest | None
    part: int | None
    if_range: str
    customer_key: bytes = field(default=b"", repr=False)

    @property
    def whole(self) -> bool:
        return self.wanted is None and self.part is None


def read_selection(exchange: Exchange) -> Selection:
    """Raises InvalidArgument s3.invalid_argument, s3.invalid_request."""
    head = exchange.head
    refuse_wish(head.headers)
    customer = customer_key(head.headers, secure=exchange.secure)
    wanted = parse_range(head.headers.get("range"))
    text = head.query.get("partNumber")
    if text is None:
        return Selection(wanted=wanted, part=None, if_range=head.headers.get("if-range", ""), customer_key=customer)
    if "range" in head.headers:
        raise InvalidArgument("s3.invalid_request", "Cannot specify both Range header and partNumber query parameter")
    return Selection(wanted=None, part=part_number(text), if_range="", customer_key=customer)


async def settle_if_range(exchange: Exchange, selection: Selection) -> Selection:
    """Without its range where If-Range does not hold: a range of another version is never sent for an old one."""
    if selection.wanted is None or not selection.if_range:
        return selection
    head = exchange.head
    info = await exchange.objects.head(
        exchange.caller, head.bucket, head.key, customer_key=selection.customer_key, deadline=exchange.deadline()
    )
    return selection if _if_range_holds(selection.if_range, info) else replace(selection, wanted=None)


async def open_object(exchange: Exchange, selection: Selection, conditions: ReadConditions) -> ObjectReader | Reply:
    """A reader of what is wanted, or the 304 that makes one needless."""
    head = exchange.head
    wanted = selection.wanted
    try:
        reader = await exchange.objects.open(
            exchange.caller,
            head.bucket,
            head.key,
            wanted=wanted,
            part_number=selection.part,
            customer_key=selection.customer_key,
            deadline=exchange.deadline(),
        )
    except InvalidArgument:
        if conditions is UNCONDITIONAL:
            raise
        # A condition that fails goes before a range that cannot be satisfied.
        info = await exchange.objects.head(
            exchange.caller, head.bucket, head.key, customer_key=selection.customer_key, deadline=exchange.deadline()
        )
        if conditions.judge(info) is Verdict.NOT_MODIFIED:
            return not_modified(info)
        raise
    if conditions is not UNCONDITIONAL and conditions.judge(reader.info) is Verdict.NOT_MODIFIED:
        return not_modified(reader.info)
    if wanted is not None and selection.if_range and not _if_range_holds(selection.if_range, reader.info):
        raise Unavailable("gateway.object_changed", "The object changed while it was being opened.")
    return reader


def conditions_of(exchange: Exchange) -> ReadConditions:
    return read_conditions(exchange.head.headers)


def answer_headers(exchange: Exchange, selection: Selection, info: ObjectInfo, span: ByteRange) -> dict[str, str]:
    """All headers but the length."""
    headers = {**entity_headers(info), **encryption_headers(info.encryption, exchange.head.headers)}
    if not selection.whole and (span.start, span.end) != (0, 0):
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{info.size}"
    if selection.part is not None and info.part_count:
        headers["x-amz-mp-parts-count"] = str(info.part_count)
    if (
        info.checksum is not None
        and span.end - span.start == info.size
        and exchange.head.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    ):
        headers.update(checksum_headers(info.checksum))
    return headers


def not_modified(info: ObjectInfo) -> Reply:
    headers = {"ETag": f'"{info.etag}"', "Last-Modified": http_date(info.modified_unix_ms // 1_000)}
    if "cache-control" in info.headers.system:
        headers["Cache-Control"] = info.headers.system["cache-control"]
    return Reply(status=304, headers=headers)


def _if_range_holds(text: str, info: ObjectInfo) -> bool:
    """A weak tag never matches; a date must be exactly the Last-Modified."""
    if text.startswith('"'):
        return text.strip('"') == info.etag
    return text == http_date(info.modified_unix_ms // 1_000)
