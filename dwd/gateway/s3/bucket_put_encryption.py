"""PUT /bucket?encryption: PutBucketEncryption. Source: AWS PutBucketEncryption."""

from __future__ import annotations

from dwd.base.units import KIB
from dwd.gateway.core.encryption import read_bucket_encryption
from dwd.gateway.exchange import Exchange, Reply

DOCUMENT_BYTES_MAX = 16 * KIB


async def handle(exchange: Exchange) -> Reply:
    encryption = read_bucket_encryption(await exchange.body().read_all(DOCUMENT_BYTES_MAX))
    await exchange.objects.set_bucket_at_rest(
        exchange.caller, exchange.head.bucket, encryption=encryption, deadline=exchange.deadline()
    )
    return Reply()
