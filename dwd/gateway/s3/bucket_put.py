"""PUT /bucket: CreateBucket. Source: AWS CreateBucket."""

from __future__ import annotations

from dwd.base.errors import InvalidArgument
from dwd.base.units import KIB
from dwd.gateway.core.xml_read import malformed, parse_document, text_of
from dwd.gateway.exchange import Exchange, Reply

DOCUMENT_BYTES_MAX = 16 * KIB


async def handle(exchange: Exchange) -> Reply:
    bucket = exchange.head.bucket
    data = await exchange.body().read_all(DOCUMENT_BYTES_MAX)
    if data.strip():
        _check_configuration(data, exchange.options.region)
    await exchange.objects.create_bucket(exchange.caller, bucket, deadline=exchange.deadline())
    return Reply(headers={"Location": f"/{bucket}"})


def _check_configuration(data: bytes, region: str) -> None:
    tree = parse_document(data, "CreateBucketConfiguration")
    location = (text_of(tree, "LocationConstraint") or "").strip()
    if location and location != region:
        raise InvalidArgument(
            "s3.illegal_location",
            f"The {location[:64]} location constraint is incompatible for the region specific endpoint this request "
            "was sent to.",
        )
    for child in tree:
        if text_of(tree, "LocationConstraint") is None and len(child):
            raise malformed("only LocationConstraint is known")
