"""GET /bucket/key?setting: what clients probe an object for, as AWS answers where it was never set.

Source: AWS GetObjectAcl, GetObjectTagging, GetObjectLegalHold, GetObjectRetention.
"""

from __future__ import annotations

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.documents import access_control
from dwd.gateway.core.xml_write import document
from dwd.gateway.exchange import Exchange, Reply, xml_reply

_NO_TAGS = document("Tagging", "<TagSet></TagSet>")


async def handle(exchange: Exchange) -> Reply:
    head = exchange.head
    await exchange.objects.head(exchange.caller, head.bucket, head.key, deadline=exchange.deadline())
    if "acl" in head.query:
        info = await exchange.objects.bucket(exchange.caller, head.bucket, deadline=exchange.deadline())
        return xml_reply(access_control(info.owner))
    if "tagging" in head.query:
        return xml_reply(_NO_TAGS)
    raise InvalidArgument("s3.invalid_request", "Bucket is missing Object Lock Configuration")
